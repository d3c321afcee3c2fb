//! Keys with an issuer's format: a prefix, a length, an alphabet.

use super::Entity;
use super::checks::keeps;
use super::gate::{Shape, is_stand_in};
use super::view::View;

/// Longest key with a prefix, in bytes: temporary credentials contain their policy.
const KEY_BYTES: usize = 2048;

/// The format of an issuer's keys.
struct Form {
    prefix: &'static [u8],
    entity: Entity,
    /// Least and most bytes after the prefix.
    least: usize,
    most: usize,
    /// The alphabet of these bytes.
    alphabet: Alphabet,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// Upper case letters and digits.
    Upper,
    /// Lower case letters and digits.
    Lower,
    /// Hexadecimal digits.
    Hex,
    /// Letters, digits, `_` and `-`.
    Url,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
    /// Base64 of either alphabet, possibly percent-encoded, and padded at its end. A key never begins within such a run, so
    /// that long formats stay linear.
    Base64,
    /// Standard base64 and the URL-safe one, with `.`, `~`, `=` and `:`.
    Any,
}

impl Alphabet {
    fn takes(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Lower => byte.is_ascii_lowercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'%'),
            Self::Any => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'=' | b'+' | b'/' | b'%' | b':'),
        }
    }
}

const fn form(prefix: &'static str, entity: Entity, least: usize, most: usize, alphabet: Alphabet) -> Form {
    Form { prefix: prefix.as_bytes(), entity, least, most, alphabet }
}

use Alphabet::{Any, Base64, Dotted, Hex, Lower, Upper, Url};
use Entity::{AnthropicKey, AwsKey, GithubToken, GoogleKey, OpenaiKey, SlackToken, StripeKey, Token};

/// Longer prefixes of a family come before shorter ones.
static FORMS: &[Form] = &[
    form("sk-ant-", AnthropicKey, 20, 200, Url),
    form("sk-or-", Token, 30, 120, Url),
    form("sk-lf-", Token, 30, 60, Url),
    form("sk-proj-", OpenaiKey, 20, 220, Url),
    form("sess-", OpenaiKey, 40, 60, Url),
    form("sk-svcacct-", OpenaiKey, 20, 220, Url),
    form("sk-admin-", OpenaiKey, 20, 220, Url),
    form("sk-", OpenaiKey, 20, 220, Url),
    form("sk_live_", StripeKey, 10, 120, Url),
    form("sk_test_", StripeKey, 10, 120, Url),
    form("sk_prod_", StripeKey, 10, 120, Url),
    form("rk_live_", StripeKey, 10, 120, Url),
    form("rk_test_", StripeKey, 10, 120, Url),
    form("rk_prod_", StripeKey, 10, 120, Url),
    form("pk_live_", StripeKey, 20, 120, Url),
    form("pk_test_", StripeKey, 20, 120, Url),
    form("whsec_", StripeKey, 20, 80, Any),
    form("AKIA", AwsKey, 16, 16, Upper),
    form("ASIA", AwsKey, 16, 16, Upper),
    form("ABIA", AwsKey, 16, 16, Upper),
    form("ACCA", AwsKey, 16, 16, Upper),
    form("A3T", AwsKey, 17, 17, Upper),
    form("ABSK", AwsKey, 100, 300, Any),
    form("amzn.mws.", AwsKey, 36, 36, Url),
    form("da2-", AwsKey, 26, 26, Url),
    form("bedrock-api-key-", AwsKey, 32, 2048, Base64),
    // Session tokens: their first bytes in base64.
    form("IQoJb3JpZ2luX2Vj", AwsKey, 80, 2048, Base64),
    form("FwoGZXIvYXdz", AwsKey, 80, 2048, Base64),
    form("FQoGZXIvYXdz", AwsKey, 80, 2048, Base64),
    form("AIzaSy", GoogleKey, 33, 33, Url),
    form("AQ.Ab", GoogleKey, 40, 100, Url),
    form("ya29.", GoogleKey, 20, 600, Dotted),
    form("GOCSPX-", GoogleKey, 20, 40, Url),
    form("1//0", GoogleKey, 40, 200, Url),
    form("4/0A", GoogleKey, 60, 120, Url),
    form("APA91b", GoogleKey, 100, 240, Url),
    form("ghp_", GithubToken, 36, 255, Url),
    form("gho_", GithubToken, 36, 255, Url),
    form("ghu_", GithubToken, 36, 255, Url),
    form("ghs_", GithubToken, 36, 900, Dotted),
    form("ghr_", GithubToken, 36, 255, Url),
    form("github_pat_", GithubToken, 22, 255, Url),
    form("xoxa-", SlackToken, 26, 300, Url),
    form("xoxb-", SlackToken, 26, 300, Url),
    form("xoxc-", SlackToken, 26, 300, Url),
    form("xoxd-", SlackToken, 40, 400, Any),
    form("xoxe.", SlackToken, 20, 400, Dotted),
    form("xoxe-", SlackToken, 16, 400, Url),
    form("xoxo-", SlackToken, 26, 300, Url),
    form("xoxp-", SlackToken, 26, 300, Url),
    form("xoxr-", SlackToken, 26, 300, Url),
    form("xoxs-", SlackToken, 26, 300, Url),
    form("xapp-", SlackToken, 20, 300, Any),
    form("glpat-", Token, 20, 300, Dotted),
    form("glptt-", Token, 40, 40, Hex),
    form("gldt-", Token, 20, 50, Url),
    form("glrt-", Token, 18, 80, Dotted),
    form("glrtr-", Token, 18, 80, Dotted),
    form("glcbt-", Token, 18, 80, Url),
    form("glsoat-", Token, 20, 50, Url),
    form("glffct-", Token, 20, 50, Url),
    form("glimt-", Token, 25, 25, Url),
    form("glft-", Token, 20, 50, Url),
    form("glagent-", Token, 50, 50, Url),
    form("gloas-", Token, 64, 64, Url),
    form("glwt-", Token, 18, 80, Url),
    form("GR1348941", Token, 20, 50, Url),
    form("LTAI", Token, 12, 24, Url),
    form("AKID", Token, 32, 36, Url),
    form("hf_", Token, 30, 60, Url),
    form("api_org_", Token, 34, 34, Url),
    form("npm_", Token, 30, 60, Url),
    form("pypi-AgEIcHlwaS5vcmc", Token, 85, 1000, Url),
    form("pypi-AgENdGVzdC5weXBpLm9yZw", Token, 85, 1000, Url),
    form("SG.", Token, 40, 80, Dotted),
    form("SK", Token, 32, 32, Hex),
    form("AC", Token, 32, 32, Hex),
    form("dop_v1_", Token, 64, 64, Hex),
    form("doo_v1_", Token, 64, 64, Hex),
    form("dor_v1_", Token, 64, 64, Hex),
    form("shpat_", Token, 32, 32, Hex),
    form("shpca_", Token, 32, 32, Hex),
    form("shppa_", Token, 32, 32, Hex),
    form("shpss_", Token, 32, 32, Hex),
    form("sq0atp-", Token, 20, 60, Url),
    form("sq0csp-", Token, 20, 60, Url),
    form("EAAA", Token, 56, 80, Url),
    form("EAA", Token, 80, 400, Url),
    form("lin_api_", Token, 30, 60, Url),
    form("lin_oauth_", Token, 30, 80, Url),
    form("ntn_", Token, 46, 46, Url),
    form("PMAK-", Token, 50, 80, Url),
    form("NRAK-", Token, 27, 27, Upper),
    form("NRJS-", Token, 19, 19, Hex),
    form("tvly-", Token, 20, 80, Url),
    form("pplx-", Token, 30, 80, Url),
    form("gsk_", Token, 40, 80, Url),
    form("xai-", Token, 60, 120, Url),
    form("nvapi-", Token, 50, 100, Url),
    form("r8_", Token, 36, 40, Url),
    form("fw_", Token, 20, 40, Url),
    form("LLM|", Token, 20, 80, Any),
    form("glsa_", Token, 32, 60, Url),
    form("glc_eyJ", Token, 30, 400, Any),
    form("phc_", Token, 36, 60, Url),
    form("phx_", Token, 36, 60, Url),
    form("phr_", Token, 36, 60, Url),
    form("phs_", Token, 36, 60, Url),
    form("dckr_pat_", Token, 20, 60, Url),
    form("dckr_oat_", Token, 20, 60, Url),
    form("hvs.", Token, 90, 300, Url),
    form("hvb.", Token, 120, 400, Url),
    form("ATATT3", Token, 60, 300, Any),
    form("ATCTT3", Token, 60, 300, Any),
    form("ATBB", Token, 28, 60, Url),
    form("BBDC-", Token, 36, 60, Any),
    form("figd_", Token, 30, 80, Url),
    form("xkeysib-", Token, 60, 100, Url),
    form("xsmtpsib-", Token, 60, 100, Url),
    form("AGE-SECRET-KEY-1", Token, 58, 58, Upper),
    form("key-", Token, 32, 40, Hex),
    form("pubkey-", Token, 32, 32, Hex),
    form("rzp_live_", Token, 14, 40, Url),
    form("rzp_test_", Token, 14, 40, Url),
    form("sbp_", Token, 40, 40, Hex),
    form("sb_secret_", Token, 20, 60, Url),
    form("pscale_tkn_", Token, 30, 80, Dotted),
    form("pscale_pw_", Token, 30, 80, Dotted),
    form("pscale_oauth_", Token, 30, 80, Dotted),
    form("pul-", Token, 40, 40, Hex),
    form("rubygems_", Token, 48, 48, Hex),
    form("sgp_", Token, 40, 80, Url),
    form("slk_", Token, 64, 64, Hex),
    form("tfp_", Token, 40, 80, Url),
    form("dapi", Token, 32, 36, Hex),
    form("EZAK", Token, 54, 60, Url),
    form("EZTK", Token, 54, 60, Url),
    form("dt0c01.", Token, 80, 100, Dotted),
    form("dp.pt.", Token, 40, 50, Url),
    form("dp.ct.", Token, 40, 50, Url),
    form("dp.st.", Token, 40, 80, Dotted),
    form("sntrys_eyJ", Token, 60, 300, Any),
    form("sntryu_", Token, 64, 64, Hex),
    form("CFPAT-", Token, 40, 50, Url),
    form("duffel_live_", Token, 40, 50, Url),
    form("duffel_test_", Token, 40, 50, Url),
    form("ops_eyJ", Token, 250, 1000, Base64),
    form("SWMTKN-1-", Token, 60, 90, Url),
    form("SWMKEY-1-", Token, 40, 60, Any),
    form("fo1_", Token, 40, 60, Url),
    form("fm1r_", Token, 60, 300, Any),
    form("fm2_", Token, 60, 600, Any),
    form("rdme_", Token, 60, 80, Url),
    form("nfp_", Token, 30, 60, Url),
    form("vcp_", Token, 40, 70, Url),
    form("vck_", Token, 40, 70, Url),
    form("cfat_", Token, 40, 60, Url),
    form("cfut_", Token, 40, 60, Url),
    form("CLOJARS_", Token, 60, 60, Hex),
    form("shippo_live_", Token, 40, 40, Hex),
    form("shippo_test_", Token, 40, 40, Hex),
    form("aio_", Token, 28, 28, Url),
    form("waka_", Token, 36, 36, Url),
    form("AQVN", Token, 35, 40, Url),
    form("FLWSECK-", Token, 30, 60, Url),
    form("FLWSECK_TEST-", Token, 12, 60, Url),
    form("access_token$production$", Token, 40, 60, Any),
    form("live_", Token, 32, 60, Url),
    form("ctp_", Token, 40, 60, Url),
    form("Ops_", Token, 40, 60, Url),
    form("cio-", Token, 30, 60, Url),
    form("1000.", Token, 60, 70, Dotted),
    form("eu01xx", Token, 34, 34, Url),
    form("AKCp", Token, 60, 80, Url),
    form("dnkey-", Token, 60, 90, Url),
    form("tskey-", Token, 20, 80, Url),
    form("cosmo_", Token, 32, 32, Hex),
    form("napi_", Token, 40, 80, Url),
    form("sq0idp-", Token, 20, 30, Url),
    form("secret_", Token, 43, 43, Url),
    form("eyJrIjoi", Token, 50, 300, Any),
    form("pk.eyJ", Token, 50, 200, Dotted),
    form("sk.eyJ", Token, 50, 200, Dotted),
    form("sl.", Token, 120, 200, Url),
    form("PMAT-", Token, 26, 26, Upper),
    form("CCIPAT_", Token, 40, 120, Url),
    form("CCIPRJ_", Token, 40, 120, Url),
    form("bkua_", Token, 40, 60, Url),
    form("tkn.v1_", Token, 40, 120, Any),
    form("VF.DM.", Token, 40, 60, Dotted),
    form("ak_live_", Token, 20, 60, Url),
    form("sk_", Token, 48, 48, Hex),
    form("squ_", Token, 40, 40, Hex),
    form("sqp_", Token, 40, 40, Hex),
    form("sqa_", Token, 40, 40, Hex),
    form("oy2", Token, 43, 43, Lower),
    form("NRBR-", Token, 19, 19, Hex),
    form("BBFF-", Token, 30, 32, Url),
    form("flb_live_", Token, 20, 20, Url),
    form("akab-", Token, 33, 33, Url),
    form("s-s4t2ud-", Token, 64, 64, Hex),
    form("s-s4t2af-", Token, 64, 64, Hex),
    form("VF.WS.", Token, 36, 60, Dotted),
    form("3MVG", Token, 70, 110, Dotted),
    form("ATTA", Token, 72, 72, Hex),
    form("HRKU-", Token, 36, 66, Url),
    form("lsv2_pt_", Token, 43, 43, Url),
    form("lsv2_sk_", Token, 43, 43, Url),
    form("pcsk_", Token, 60, 90, Url),
    form("csk-", Token, 48, 48, Lower),
    form("tgp_v1_", Token, 43, 43, Url),
    form("jina_", Token, 60, 60, Url),
    form("e2b_", Token, 40, 40, Hex),
    form("re_", Token, 33, 33, Url),
    form("apify_api_", Token, 36, 36, Url),
    form("pat-na1-", Token, 36, 36, Url),
    form("pat-na2-", Token, 36, 36, Url),
    form("pat-eu1-", Token, 36, 36, Url),
    form("ory_pat_", Token, 32, 90, Url),
    form("ory_at_", Token, 32, 90, Url),
    form("mlsn.", Token, 64, 64, Hex),
    form("tk.eyJ", Token, 50, 200, Dotted),
    form("xwfp-", SlackToken, 16, 300, Url),
    form("px-api-", Token, 36, 36, Url),
    form("px-dep-", Token, 36, 36, Url),
    form("SU", Token, 56, 56, Upper),
    form("SA", Token, 56, 56, Upper),
];

/// For each first byte, one plus the index of the first format that begins with it, or 0: most words are dismissed with one
/// lookup.
static FIRST: [u16; 256] = {
    let mut first = [0; 256];
    let mut i = FORMS.len();
    while i > 0 {
        first[FORMS[i - 1].prefix[0] as usize] = i as u16;
        i -= 1;
    }
    first
};

/// For each format, one plus the index of the next one with the same first byte, or 0.
static NEXT: [u16; FORMS.len()] = {
    let mut next = [0; FORMS.len()];
    let mut last = [0u16; 256];
    let mut i = FORMS.len();
    while i > 0 {
        let first = FORMS[i - 1].prefix[0] as usize;
        next[i - 1] = last[first];
        last[first] = i as u16;
        i -= 1;
    }
    next
};

/// The formats that begin with this byte, in order.
fn beginning(first: u8) -> impl Iterator<Item = &'static Form> {
    let mut place = FIRST.get(usize::from(first)).copied().unwrap_or(0);
    std::iter::from_fn(move || {
        let at = usize::from(place).checked_sub(1)?;
        place = NEXT.get(at).copied().unwrap_or(0);
        FORMS.get(at)
    })
}

/// The end of a key at `start`, and its kind.
pub fn find(view: &View<'_>, start: usize) -> Option<(usize, Entity)> {
    for form in beginning(view.at(start)) {
        let body = start + form.prefix.len();
        if !(0..form.prefix.len()).all(|i| form.prefix.get(i) == Some(&view.at(start + i))) {
            continue;
        }
        if form.alphabet == Base64 && matches!(view.before(start, 1), b'/' | b'+' | b'%') {
            continue;
        }
        let mut end = view.run(body, form.most.min(KEY_BYTES) + 1, |b| form.alphabet.takes(b));
        if form.alphabet == Base64 {
            end = view.run(end, 2, |b| b == b'=');
        }
        if form.alphabet == Any || form.alphabet == Dotted {
            while end > body && matches!(view.before(end, 1), b'.' | b':' | b'-') {
                end -= 1;
            }
        }
        let value = view.slice(body, end);
        if value.len() < form.least || value.len() > form.most || form.alphabet != Url && view.at(end).is_ascii_alphanumeric() {
            continue;
        }
        // `xoxp-1234-####`, `ops_eyJ…`: what follows shows that it was truncated.
        let cut = matches!(view.at(end), b'#' | b'*') || view.slice(end, end + 3) == b"..." || view.slice(end, end + 3) == "…".as_bytes();
        // A plus before it occurs only in base64, so this is the middle of something longer.
        if real(value, form) && !cut && view.before(start, 1) != b'+' {
            return Some((end, form.entity));
        }
    }
    None
}

/// Length from which a prefix alone identifies the issuer.
const TELLING: usize = 4;

/// Whether the word from `start` to `end` has the prefix of an issuer whose rules it violates: too short, or wrong
/// separators or check characters.
pub fn is_denied(view: &View<'_>, start: usize, end: usize) -> bool {
    let word = view.slice(start, end);
    let mut issuers = beginning(view.at(start)).filter(|form| form.prefix.len() >= TELLING && word.starts_with(form.prefix)).peekable();
    let refuses = |form: &Form| {
        let value = word.get(form.prefix.len()..).unwrap_or_default();
        value.len() < form.least || !keeps(form.prefix, value)
    };
    let signed = |form: &&Form| form.prefix.iter().any(|b| !b.is_ascii_alphanumeric());
    issuers.peek().is_some_and(signed) && issuers.all(refuses)
}

fn real(value: &[u8], form: &Form) -> bool {
    let shape = Shape::of(value);
    let bare = form.prefix.len() <= 3 && form.prefix != b"A3T" || form.entity == OpenaiKey && form.prefix.len() == 3;
    let known = value.windows(8).any(|w| w == b"T3BlbkFJ");
    // `sk-learn-…`, `key-word-…`: a short prefix requires a value that no person would write.
    let cases = shape.lower.min(shape.upper) >= 4 && shape.digits >= 1 && shape.turns * 100 >= shape.len * 35 && shape.other <= 2;
    // Hugging Face tokens are 34 letters of both cases without a digit.
    let letters = form.prefix == b"hf_" && shape.len == 34 && shape.lower >= 8 && shape.upper >= 8 && shape.lower + shape.upper == 34;
    let drawn = !bare
        || known
        || letters && shape.turns >= 8
        || (shape.digits >= 3 || cases) && shape.distinct >= 10 && (shape.word <= 10 || form.alphabet == Lower);
    let varied = match form.alphabet {
        Upper | Hex => shape.distinct >= 5,
        _ => shape.distinct >= 8 && (shape.digits >= 1 || shape.upper >= 2 && shape.lower >= 2),
    };
    let numbered = form.entity != SlackToken || shape.digits >= 5;
    drawn && varied && numbered && !is_stand_in(value) && keeps(form.prefix, value)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Inserts the separators and check characters that the issuer requires.
    fn shaped(prefix: &[u8], text: &mut [u8], body: usize) {
        match prefix {
            b"sgp_" => text[body..].copy_from_slice(b"7d0c2a3e51b84f6a9e2c3e02ea68ef787d0c2a3e"),
            b"re_" => text[body + 8] = b'_',
            b"akab-" => text[body + 16] = b'-',
            b"lsv2_pt_" | b"lsv2_sk_" => text[body + 32] = b'_',
            b"ntn_" => text[body..body + 11].copy_from_slice(b"52918374650"),
            b"AGE-SECRET-KEY-1" => {
                let signed = super::super::checks::tests::signed(&text[body..body + 52]);
                text[body..].copy_from_slice(&signed);
            }
            _ if prefix.starts_with(b"pat-") || prefix.starts_with(b"px-") => {
                text[body..].copy_from_slice(b"7d0c2a3e-51b8-4f6a-9e2c-3e02ea68ef78")
            }
            _ => {}
        }
    }

    /// Whatever key an issuer generates is found whole and with the right kind, in a sentence, a header and in quotes.
    #[test]
    fn drawn_keys_of_every_form_are_found() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut draw = |from: &[u8]| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            from.get((seed >> 33) as usize % from.len()).copied().unwrap_or(b'7')
        };
        let mut weak = Vec::new();
        for form in FORMS {
            let alphabet: Vec<u8> = match form.alphabet {
                Hex => (b'0'..=b'9').chain(b'a'..=b'f').collect(),
                Upper => (b'A'..=b'Z').chain(b'2'..=b'7').collect(),
                Lower => (b'0'..=b'9').chain(b'a'..=b'z').collect(),
                _ => (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect(),
            };
            let lead: &[u8] = if form.entity == SlackToken { b"920417735562-" } else { b"" };
            let size = form.least.max(24).min(form.most);
            let mut found = 0;
            for (opening, closing) in [("use ", " now"), ("Bearer ", "\r\n"), ("\"", "\","), ("key=", "&x=1")].iter().cycle().take(100) {
                let mut text = opening.as_bytes().to_vec();
                let start = text.len();
                text.extend_from_slice(form.prefix);
                text.extend_from_slice(lead);
                text.extend((lead.len()..size).map(|_| draw(&alphabet)));
                shaped(form.prefix, &mut text, start + form.prefix.len());
                let end = text.len();
                text.extend_from_slice(closing.as_bytes());
                found += usize::from(find(&View::new(&text, true), start) == Some((end, form.entity)));
            }
            if found < 95 {
                weak.push((String::from_utf8_lossy(form.prefix), found));
            }
        }
        assert_eq!(weak, [], "of 100");
    }
}
