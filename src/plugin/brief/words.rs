//! Weighs the words of a goal. They are the weakest indication: structured fields take precedence.
//!
//! A text is split into words without case and accents. A rule is a set of *topics* that must occur together. A topic is a
//! list of stems separated by bars: `limit` stands for limit, limits, limiting; `*grenze` for every word that contains it
//! (German joins words); two stems in a row (`per minut`) must follow each other, with at most one word between.

use super::classify::{Belongs, Signal};
use super::{Action, Moment};

/// Words before a topic that negate it: "not about budgets", "ohne Kostenlimit".
const NEGATIONS: [&str; 12] = ["not", "no", "never", "without", "nothing", "isn", "nicht", "kein", "keine", "keinen", "ohne", "statt"];
/// How many words before a topic a negation may stand.
const REACH: usize = 3;

type Topic = &'static str;

const LIMITING: Topic = "\
    limit|cap|capped|exceed|more than|at most|no more|over|above|maxim|max|ceiling|threshold|stop|block|refus|reject|cut off|\
    oefter als|more often|abgewies|abweis|run out|ran out|run over|use up|used up|allowance|overspen|beyond|hoechst|ueberschreit|ueberschritt|mehr als|obergrenz|\
    *grenze|*limit|deckel|gedeckelt|sperr|aufgebraucht|schluss|nicht mehr|keine mehr|no longer|nothing more|any more|\
    ausgeschoepf|drossel|begrenz";
const MONEY: Topic = "\
    spend|spent|money|cost|dollar|usd|euro|eur|budget|invoice|price|pay|*kosten|geld|ausgeb|ausgab|ausgegeben|*budget|\
    rechnung|bezahl|cent";
const PERIOD: Topic = "month|monthly|day|daily|week|weekly|year|quarter|*monat|tag|taeglich|pro tag|woche|jahr|quartal";
/// Units that only a rate is measured in.
const PER: Topic = "\
    per minut|per second|per hour|pro minut|je minut|pro sekund|je sekund|pro stund|je stund|*minutenlimit|rpm|rps|tpm|qps";
/// Short times, which may also say how soon or how often something happens.
const SHORT_TIME: Topic = "\
    a minute|each minut|every minut|one minut|a second|each second|every second|one second|an hour|each hour|every hour|\
    jede minut|einer minut|jede sekund|einer sekund|jede stund|einer stund|der minut|der sekund|der stund|60 second|sixty second";
/// Words before a short time that make it a deadline: "within a minute", "no later than one minute".
const DEADLINES: [&str; 17] = [
    "within",
    "under",
    "than",
    "most",
    "after",
    "for",
    "last",
    "maximal",
    "innerhalb",
    "binnen",
    "nach",
    "unter",
    "spaetestens",
    "hoechstens",
    "vor",
    "before",
    "until",
];
/// Numbers as words.
const NUMBERS: [&str; 30] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "fifteen", "twenty", "thirty", "fifty",
    "hundred", "thousand", "dozen", "ein", "eine", "zwei", "drei", "vier", "fuenf", "sechs", "acht", "zehn", "zwanzig", "fuenfzig",
    "hundert",
];
const CALLS: Topic = "\
    request|call|quer|hit|prompt|message|time|rate|traffic|token|anfrag|aufruf|mal|nachricht|zugriff|anruf";
const GATE_VERB: Topic = "\
    may|allow|permit|permission|entitl|authori|grant|access|only for|only the|reserv|off limit|restrict|forbid|who can|\
    can use|can call|darf|duerf|zugriff|*berechtig|erlaub|verbot|verbiet|freigeschalt|zugelassen|nur";
const RESOURCE: Topic = "model|gpt|claude|gemini|llama|opus|sonnet|mcp server|*modell";
const CALLER: Topic = "\
    who|team|key|user|app|employee|developer|intern|staff|department|group|people|contractor|engineer|*team|schluessel|*nutzer|\
    *anwender|*mitarbeit|*abteilung|praktikant|*entwickler|*gruppe|wer|leute|kolleg";
const ATTACK: Topic = "\
    prompt inject|inject|jailbreak|jail break|ignore previous|ignore all|ignore your|override instruct|hidden instruct|\
    malicious|attack|hijack|trick|manipul|toxic|hate speech|harmful|unsafe content|moderat|system prompt|leak instruct|\
    angriff|eingeschleust|einschleus|schaedlich|ueberlist|austrick|boesartig|anweisungen ignor|hasserfuellt|dan mode|role play";
const SENSITIVE: Topic = "\
    pii|personal data|personally identif|credit card|card number|iban|social security|ssn|phone number|passwords|api keys|\
    personenbezogen|persoenliche dat|kreditkart|telefonnummer|passwoert|klarnam";
const REMOVE: Topic = "redact|mask|remov|hide|strip|anonymi|pseudonymi|block|scrub|schwaerz|maskier|entfern|unkenntlich";
const FAILOVER: Topic = "\
    fallback|fall back|failover|fail over|load balanc|cheapest provider|fastest provider|another provider|other provider|\
    second provider|backup provider|backup model|provider is down|provider down|outage|ausfall|ausweich|anderen anbieter|\
    lastverteil|guenstigsten anbieter|umleit|retry on";
const TOOLS: Topic = "mcp|tool|werkzeug";
const TOOL_RULE: Topic = "\
    allowlist|allow list|denylist|whitelist|blacklist|poison|rug pull|description chang|destructive|dangerous|approved tool|\
    list of tool|which tool|hide tool|freigabeliste|erlaubte werkzeug|gefaehrlich|vergift|positivliste";
const NETWORK: Topic = "\
    ip address|ip range|ip allow|cidr|subnet|office network|vpn|ip adress|*netzwerk|netzbereich|firmennetz";
const SIZE: Topic = "\
    megabyte|kilobyte|body size|payload size|request size|large request|huge prompt|max tokens|too large|too long|zu gross|\
    zu lang";
const BUSY: Topic = "\
    concurren|parallel request|at the same time|at once|simultan|gleichzeitig|burst|flood|hammer|throttl|rate limit|ratelimit|\
    in flight";

const TELLING: Topic = "\
    webhook|siem|splunk|sentinel|elastic|qradar|chronicle|sumo logic|datadog|logstash|graylog|arcsight|logrhythm|exabeam|wazuh|\
    security lake|opensearch|kibana|newrelic|new relic|security operation|audit event|audit trail|audit log|archiv|s3|bucket|\
    export|forward|notif|alert|email|e mail|mail|slack|pagerduty|opsgenie|mattermost|teams channel|warehouse|snowflake|redshift|\
    databricks|clickhouse|data lake|bigquery|kafka|kinesis|pubsub|event hub|rabbitmq|syslog|analytic|dashboard|grafana|tableau|\
    power bi|report to|send to|sent to|post to|ship|ingest|land in|publish|benachrichtig|weiterleit|uebermittel|auswert|meld|\
    schick|ausgeleitet|exportier|archivier|statistik|leitstelle|revisionsspur|protokollserver";
const ASKING: Topic = "\
    approv|sign off|signoff|four eyes|genehmig|freigab|freigegeben|zustimm|vier augen|policy engine|policy decision|\
    policy server|opa|decision point|our own engine|external engine|dlp|data loss|proprietary|in house|home grown|homegrown|\
    hauseigen|eigenen dienst|eigener dienst|ticket|servicenow|jira|change request|richtlinien dienst|regelwerk|\
    entscheidungsdienst|compliance service|classifier|scanner of our|our scanner";
const ATTACHING: Topic = "\
    header|metadata|metadaten|annotat|enrich|anreicher|stamp|attach|label|cost cent|kostenstell|project code|projekt|trace|\
    correlation|korrelation|kopfzeil|tag each|tag every|tagged|mitgeb|mitgeschick|vermerk";
const NOTICING: Topic = "\
    keyword|special word|certain word|particular word|business term|mention|brand name|product name|schluesselwort|\
    schluesselwoert|stichwort|stichwoert|begriff|erwaehn|count how often|recommend|offer|upsell|suggest|signal|intent|empfehl|\
    angebot|vorschlag|vorschlaeg";
const CUSTOM: Topic = "\
    workflow|custom|business rule|contract|subscription|tier|plan|tenant specific|per tenant|per customer|eligib|region|\
    residency|office hours|business hours|maintenance window|change window|arbeitsablauf|geschaeftsregel|vertrag|tarif|\
    mandant|kundenspezifisch|geschaeftszeit|wartungsfenster|ablauf";

struct Rule {
    belongs: Belongs,
    weight: i32,
    topics: &'static [Topic],
    /// What the topics are about.
    about: &'static str,
}

const fn rule(belongs: Belongs, weight: i32, topics: &'static [Topic], about: &'static str) -> Rule {
    Rule { belongs, weight, topics, about }
}

const RULES: &[Rule] = &[
    rule(Belongs::Policies, 3, &[BUSY], "how much goes on at once"),
    rule(Belongs::Policies, 3, &[BUSY, LIMITING], "a limit of what goes on at once"),
    rule(Belongs::Policies, 5, &[NETWORK], "where callers are"),
    rule(Belongs::Policies, 5, &[SIZE, LIMITING], "a limit of size"),
    rule(Belongs::Budgets, 6, &[MONEY, LIMITING], "a limit of money"),
    rule(Belongs::Budgets, 5, &[PERIOD, LIMITING, CALLS], "a limit of use over days or months"),
    rule(Belongs::Grants, 6, &[GATE_VERB, RESOURCE, CALLER], "who may use which model"),
    rule(Belongs::SafetySec, 6, &[ATTACK], "attacks and harmful content"),
    rule(Belongs::SafetySec, 5, &[SENSITIVE, REMOVE], "personal data and secrets"),
    rule(Belongs::Routing, 6, &[FAILOVER], "which provider answers"),
    rule(Belongs::McpSecurity, 6, &[TOOLS, TOOL_RULE], "which tools there are"),
    rule(Belongs::McpSecurity, 5, &[TOOLS, GATE_VERB, CALLER], "who may call which tool"),
    rule(Belongs::Plugin, 3, &[TELLING], "telling another system"),
    rule(Belongs::Plugin, 4, &[ASKING], "asking another system"),
    rule(Belongs::Plugin, 3, &[ATTACHING], "attaching what is known"),
    rule(Belongs::Plugin, 3, &[NOTICING], "noticing what is said"),
    rule(Belongs::Plugin, 3, &[CUSTOM], "a rule of the house"),
];

/// The plugin's actions that the words ask for, for a brief that names none.
pub fn actions(text: &str) -> Vec<Action> {
    let words = cut(text);
    let topics = [(TELLING, Action::Deliver), (ASKING, Action::Ask), (ATTACHING, Action::Tag), (NOTICING, Action::Note)];
    topics.into_iter().filter(|(topic, _)| occurs(topic, &words).is_some()).map(|(_, action)| action).collect()
}

/// [`Moment::AfterUpstream`] if the words want something attached to the answer, else `None`.
pub fn moment(text: &str) -> Option<Moment> {
    let words = cut(text);
    let back = occurs("header|kopfzeil|attach|annotat|vermerk", &words).and(occurs("answer|response|repl|antwort", &words));
    let onwards = occurs("provider|upstream|request|anfrag|anbieter|outgoing|call", &words);
    (back.is_some() && onwards.is_none()).then_some(Moment::AfterUpstream)
}

/// Whether a sentence indicates a plugin and no control.
pub fn has_a_sentence_of_its_own(text: &str) -> bool {
    text.split(['.', '!', '?', ';']).any(|sentence| {
        let found = signals(sentence);
        !found.is_empty() && found.iter().all(|signal| signal.belongs == Belongs::Plugin)
    })
}

/// The signals in a text.
pub fn signals(text: &str) -> Vec<Signal> {
    let words = cut(text);
    let mut found = Vec::new();
    if let Some(hit) = rate(&words) {
        found.push(Signal { belongs: Belongs::Policies, weight: 6, from: format!("goal: “{hit}”"), about: "calls in a short time" });
    }
    for rule in RULES {
        let hits: Option<Vec<String>> = rule.topics.iter().map(|topic| occurs(topic, &words)).collect();
        if let Some(hits) = hits {
            found.push(Signal {
                belongs: rule.belongs,
                weight: rule.weight,
                from: format!("goal: “{}”", hits.join("” and “")),
                about: rule.about,
            });
        }
    }
    found
}

/// A rate within one sentence: a number of calls in a short time, or a limit of them. How soon something is to happen ("within
/// a minute") or how often ("every hour") is not a rate.
fn rate(words: &[String]) -> Option<String> {
    let number = |word: &String| word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() || NUMBERS.contains(&word.as_str());
    words.split(String::is_empty).find_map(|sentence| {
        let calls = occurs(CALLS, sentence);
        let counted = || {
            let close = |at: usize| sentence[at.saturating_sub(2)..at].iter().any(number);
            (0..sentence.len()).any(|at| close(at) && CALLS.split('|').any(|stem| starts(stem, sentence, at)))
        };
        let limits = || occurs(LIMITING, sentence).is_some();
        if let Some(at) = place(PER, sentence) {
            // If this sentence limits something, the calls may be named in another one.
            let what = calls.clone().or_else(|| occurs(CALLS, words).filter(|_| limits()));
            if let Some(what) = what {
                return Some(format!("{what}” and “{}", sentence[at..].iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ")));
            }
        }
        let at = place(SHORT_TIME, sentence)?;
        let deadline = at > 0 && DEADLINES.contains(&sentence[at - 1].as_str());
        let is_rate = counted() || !deadline && limits();
        let time = || sentence[at..].iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ");
        calls.filter(|_| is_rate).map(|what| format!("{what}” and “{}", time()))
    })
}

/// Splits a text into words without case, accents and punctuation. The end of a sentence is an empty word, across which
/// nothing is combined.
fn cut(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'ä' => word.push_str("ae"),
            'ö' => word.push_str("oe"),
            'ü' => word.push_str("ue"),
            'ß' => word.push_str("ss"),
            'é' | 'è' | 'ê' => word.push('e'),
            'á' | 'à' | 'â' => word.push('a'),
            '€' => word.push_str(" euro "),
            '$' => word.push_str(" dollar "),
            c if c.is_alphanumeric() => word.push(c),
            c => {
                words.extend(std::mem::take(&mut word).split_whitespace().map(str::to_owned));
                if matches!(c, '.' | '!' | '?' | ';') {
                    words.push(String::new());
                }
            }
        }
    }
    words.extend(word.split_whitespace().map(str::to_owned));
    words
}

/// The first word of a topic's first occurrence that is not negated.
fn occurs(topic: Topic, words: &[String]) -> Option<String> {
    place(topic, words).map(|at| words[at].clone())
}

/// The index of a topic's first occurrence that is not negated.
fn place(topic: Topic, words: &[String]) -> Option<usize> {
    (0..words.len()).find(|at| {
        let at = *at;
        let Some(stem) = topic.split('|').find(|stem| starts(stem, words, at)) else { return false };
        let before = &words[at.saturating_sub(REACH)..at];
        let sentence = before.iter().rposition(String::is_empty).map_or(before, |end| &before[end + 1..]);
        // "no more than" and "not exceed" are limits, not negations.
        let limits = ["more", "at", "exceed", "over", "beyond", "mehr", "above"]
            .iter()
            .any(|word| stem.starts_with(word) || sentence.iter().any(|w| w == word));
        let rules = gates(&words[at]) || sentence.iter().any(|word| gates(word));
        limits || rules || !sentence.iter().any(|word| NEGATIONS.contains(&word.as_str()))
    })
}

/// Whether a word makes a negation before it part of a rule: "may not use", "are not allowed to".
fn gates(word: &str) -> bool {
    [
        "may",
        "must",
        "should",
        "can",
        "cannot",
        "could",
        "shall",
        "darf",
        "duerfen",
        "soll",
        "sollen",
        "kann",
        "koennen",
        "allowed",
        "permitted",
        "entitled",
        "authorised",
        "authorized",
        "erlaubt",
        "berechtigt",
        "zugelassen",
    ]
    .contains(&word)
}

fn starts(stem: &str, words: &[String], at: usize) -> bool {
    let hit = |stem: &str, word: &str| match stem.strip_prefix('*') {
        Some(part) => word.contains(part),
        // Short stems are whole words: `tag` does not match `tagline`, nor `may` `maybe`.
        None if stem.len() <= 3 => word == stem || word.strip_suffix('s') == Some(stem),
        None => word.starts_with(stem),
    };
    let Some((first, second)) = stem.split_once(' ') else { return hit(stem, &words[at]) };
    let next = |step: usize| words.get(at + step).is_some_and(|word| hit(second, word));
    let exact = words[at] == first || first.len() > 3 && words[at].starts_with(first);
    exact && (next(1) || !words.get(at + 1).is_none_or(String::is_empty) && next(2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn about(text: &str) -> Vec<Belongs> {
        let mut found: Vec<Belongs> = signals(text).into_iter().map(|signal| signal.belongs).collect();
        found.dedup();
        found
    }

    #[test]
    fn what_is_denied_is_not_said() {
        assert_eq!(about("This is not about budgets. It is about headers."), [Belongs::Plugin]);
        assert_eq!(about("Es geht nicht um ein Kostenlimit."), []);
        assert_eq!(about("No team may spend more than 500 euros."), [Belongs::Budgets]);
        assert_eq!(about("Praktikanten dürfen das große Modell nicht benutzen."), [Belongs::Grants]);
    }

    #[test]
    fn a_deadline_and_a_cadence_are_no_rate() {
        for goal in [
            "Send an event of every request to Splunk within a minute.",
            "Every request is in Datadog no later than one minute after its end.",
            "Usage per request lands in Snowflake every hour.",
            "Jede Anfrage soll innerhalb einer Minute im SIEM stehen.",
            "A webhook tells billing of every request; it takes 100 events per second.",
        ] {
            assert!(!about(goal).contains(&Belongs::Policies), "{goal}");
        }
        for goal in [
            "60 requests per minute for each key.",
            "Five calls a second are enough.",
            "No more than 60 requests within a minute.",
            "Limit prompts to a few each minute.",
            "Our clients send too many prompts. Nobody needs more than five per second.",
            "Ten times a minute a key may call the model.",
            "Jeder Schlüssel stellt höchstens zehn Anfragen in einer Minute.",
        ] {
            assert!(about(goal).contains(&Belongs::Policies), "{goal}");
        }
    }

    #[test]
    fn words_are_cut_without_case_and_accents() {
        assert_eq!(cut("Größe: 5 €/Tag. Näher!"), ["groesse", "5", "euro", "tag", "", "naeher", ""]);
    }
}
