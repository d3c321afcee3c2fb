//! What the words of a goal say. They are the weakest signal: a structured field that says something is believed first.
//!
//! A text is cut into words without case and accents; a rule is a set of *topics* that must occur together. A topic is a
//! list of stems between bars: `limit` stands for limit, limits, limiting; `*grenze` for every word that holds it (German joins its
//! words); two stems in a row (`per minut`) must follow each other, with at most one word between.

use super::Action;
use super::classify::{Belongs, Signal};

/// Words before a topic that turn it round: "not about budgets", "ohne Kostenlimit".
const NEGATIONS: [&str; 12] = ["not", "no", "never", "without", "nothing", "isn", "nicht", "kein", "keine", "keinen", "ohne", "statt"];
/// How many words before a topic a negation reaches.
const REACH: usize = 3;

type Topic = &'static str;

const LIMITING: Topic = "\
    limit|cap|capped|exceed|more than|at most|no more|over|above|maxim|max|ceiling|threshold|stop|block|refus|reject|cut off|\
    run out|ran out|run over|use up|used up|allowance|overspen|beyond|hoechst|ueberschreit|ueberschritt|mehr als|obergrenz|\
    *grenze|*limit|deckel|gedeckelt|sperr|aufgebraucht|schluss|nicht mehr|keine mehr|no longer|nothing more|any more|\
    ausgeschoepf|drossel|begrenz";
const MONEY: Topic = "\
    spend|spent|money|cost|dollar|usd|euro|eur|budget|invoice|price|pay|*kosten|geld|ausgeb|ausgab|ausgegeben|*budget|\
    rechnung|bezahl|cent";
const PERIOD: Topic = "month|monthly|day|daily|week|weekly|year|quarter|*monat|tag|taeglich|pro tag|woche|jahr|quartal";
const SHORT_PERIOD: Topic = "\
    per minut|a minute|each minut|every minut|one minut|per second|a second|each second|every second|one second|per hour|\
    an hour|each hour|every hour|pro minut|je minut|jede minut|einer minut|pro sekund|je sekund|einer sekund|pro stund|\
    je stund|*minutenlimit|rpm|rps|tpm|qps|60 second|sixty second";
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
    webhook|siem|splunk|sentinel|elastic|archiv|export|forward|notif|email|e mail|mail|slack|pagerduty|warehouse|snowflake|\
    bigquery|kafka|syslog|analytic|dashboard|report to|send to|sent to|post to|publish|benachrichtig|weiterleit|uebermittel|\
    auswert|meld|schick|ausgeleitet|exportier|archivier|statistik";
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
    /// What the words are about.
    about: &'static str,
}

const fn rule(belongs: Belongs, weight: i32, topics: &'static [Topic], about: &'static str) -> Rule {
    Rule { belongs, weight, topics, about }
}

const RULES: &[Rule] = &[
    rule(Belongs::Policies, 6, &[SHORT_PERIOD, CALLS], "calls in a short time"),
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

/// What the words ask a plugin to do, for a brief that names no action.
pub fn actions(text: &str) -> Vec<Action> {
    let words = cut(text);
    let topics = [(TELLING, Action::Deliver), (ASKING, Action::Ask), (ATTACHING, Action::Tag), (NOTICING, Action::Note)];
    topics.into_iter().filter(|(topic, _)| occurs(topic, &words).is_some()).map(|(_, action)| action).collect()
}

/// Whether a sentence speaks of a plugin's work and of no control's.
pub fn has_a_sentence_of_its_own(text: &str) -> bool {
    text.split(['.', '!', '?', ';']).any(|sentence| {
        let found = signals(sentence);
        !found.is_empty() && found.iter().all(|signal| signal.belongs == Belongs::Plugin)
    })
}

/// Signals in a text.
pub fn signals(text: &str) -> Vec<Signal> {
    let words = cut(text);
    let mut found = Vec::new();
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

/// Words without case, accents and punctuation; ends of sentences stay as an empty word, across which nothing belongs
/// together.
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

/// The first words that hit a topic and are not turned round.
fn occurs(topic: Topic, words: &[String]) -> Option<String> {
    (0..words.len()).find_map(|at| {
        let stem = topic.split('|').find(|stem| starts(stem, words, at))?;
        let before = &words[at.saturating_sub(REACH)..at];
        let sentence = before.iter().rposition(String::is_empty).map_or(before, |end| &before[end + 1..]);
        // "no more than" and "not exceed" limit; they turn nothing round.
        let limits = ["more", "at", "exceed", "over", "beyond", "mehr", "above"]
            .iter()
            .any(|word| stem.starts_with(word) || sentence.iter().any(|w| w == word));
        let turned = !limits && sentence.iter().any(|word| NEGATIONS.contains(&word.as_str())) && !sentence.iter().any(|word| gates(word));
        (!turned).then(|| words[at].clone())
    })
}

/// "may not use" is a rule, not its absence.
fn gates(word: &str) -> bool {
    ["may", "must", "should", "can", "cannot", "could", "shall", "darf", "duerfen", "soll", "sollen", "kann", "koennen", "allowed"]
        .contains(&word)
}

fn starts(stem: &str, words: &[String], at: usize) -> bool {
    let hit = |stem: &str, word: &str| match stem.strip_prefix('*') {
        Some(part) => word.contains(part),
        // Short stems are whole words: `tag` is no `tagline`, `may` no `maybe`.
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
    fn words_are_cut_without_case_and_accents() {
        assert_eq!(cut("Größe: 5 €/Tag. Näher!"), ["groesse", "5", "euro", "tag", "", "naeher", ""]);
    }
}
