//! Letters that look like Latin ones.
//!
//! The first two tables contain letters whose skeleton in Unicode's `confusables.txt` is a single ASCII letter (UTS #39),
//! for scripts that fonts commonly draw alike; letters that NFKD maps to ASCII are not repeated. Unlike in the standard,
//! dotted and dotless i differ from l. [`LOOSE`] and the turned letters are the project's own additions.

/// Letters of other scripts that look the same as a Latin letter.
pub const FOREIGN: &[(char, &str)] = &[
    ('A', "ᗅᎪАΑꓮ"),
    ('a', "аα"),
    ('B', "ᗷᏴⲂВΒꓐ"),
    ('b', "ᑲᖯᏏЬ"),
    ('C', "ᏟⲤС𐐕Ϲꓚ"),
    ('c', "ꮯⲥсᲃ𐐽ϲ"),
    ('D', "ᗞᗪᎠꓓ"),
    ('d', "ᑯᏧԁꓒ"),
    ('E', "ᎬЕΕꓰ𑢦𑢮"),
    ('e', "еҽ"),
    ('F', "ᖴϜꓝ𑢢𑣂"),
    ('f', "ք"),
    ('G', "ᏀᏳԌꓖ"),
    ('g', "ց"),
    ('H', "ᕼᎻⲎНΗꓧ"),
    ('h', "հᏂҺһ"),
    ('I', "ⲒІΙꓲ"),
    ('i', "ւᎥꭵⲓіꙇιι𑣃"),
    ('J', "ᒍᎫЈͿꓙ"),
    ('j', "յјϳ"),
    ('K', "ᏦⲔКΚꓗ"),
    ('L', "ᒪᏞⳐ𐐛ꓡ𑢣𑢲"),
    ('l', "Ӏӏ"),
    ('M', "ᗰᎷⲘМΜϺꓟ"),
    ('m', "ՠ"),
    ('N', "𑪾ⲚΝꓠ"),
    ('n', "ոռ"),
    ('O', "ՕⲞО𐐄Οꓳ𐓂𑢵"),
    ('o', "օϭⲟоᲂ𐐬οσ𐓪𑣈𑣗"),
    ('P', "ᑭᏢⲢⳎРΡꓑ"),
    ('p', "ⲣⳏрρϱϸ"),
    ('Q', "Ԛ"),
    ('q', "գզԛ"),
    ('R', "ᖇᎡᏒꓣ𐒴"),
    ('r', "ꮁⲅг"),
    ('S', "ՏᏕᏚЅ𐐠ꓢ"),
    ('s', "ꮪѕ𐑈𑣁"),
    ('T', "ᎢⲦТΤꓔ𑢼"),
    ('U', "Սᑌꓴ𐓎𑢸"),
    ('u', "սυ𐓶𑣘"),
    ('V', "ᐯᏙѴꓦ𑢠"),
    ('v', "ꮩѵν𑣀"),
    ('W', "ᎳᏔԜꓪ"),
    ('w', "աꮃꮤⲽшѡԝ"),
    ('X', "ⲬХΧꓫ"),
    ('x', "ᕁᕽх"),
    ('Y', "ᎩᎽⲨУҮΥϒꓬ𑢤"),
    ('y', "ⲩуүγ𑣄𑣜"),
    ('Z', "𑪼ᏃⲌΖꓜ𑢩"),
    ('z', "ꮓⲍ"),
];

/// Letters of other scripts that a reader takes for a Latin letter only in the middle of a Latin word.
pub const LOOSE: &[(char, &str)] = &[
    ('A', "ДΔΛ"),
    ('a', "ԥ"),
    ('b', "вьβ"),
    ('e', "эεєә"),
    ('E', "ЄΣЭ"),
    ('h', "нђћ"),
    ('i', "ї"),
    ('I', "Ї"),
    ('k', "кκқҝ"),
    ('m', "м"),
    ('n', "пηи"),
    ('N', "ИП"),
    ('o', "θфө"),
    ('R', "Я"),
    ('r', "яґѓ"),
    ('r', "Г"),
    ('t', "тτ"),
    ('u', "μц"),
    ('w', "ωщ"),
    ('x', "χж"),
    ('y', "ўұ"),
];

/// Variants of letters within the Latin script: small capitals, phonetic, barred and turned letters. They do not occur in
/// words of other scripts, so they always count as the plain letter.
pub const LATIN: &[(char, &str)] = &[
    ('a', "ɑꭤᴀɐ"),
    ('B', "Ꞵ"),
    ('b', "Ƅʙƀɓ"),
    ('c', "ᴄɔƈ"),
    ('d', "ᴅđɖɗ"),
    ('D', "Đ"),
    ('e', "ꬲᴇǝəɇ"),
    ('F', "Ꞙ"),
    ('f', "ƒʄẝꞙꬵꜰɟ"),
    ('g', "ƍɡᶃɢƃɠ"),
    ('h', "ʜɥħɦ"),
    ('H', "Ħ"),
    ('i', "ıɩɪᴉɨ"),
    ('J', "Ʝ"),
    ('j', "ȷᴊɾ"),
    ('k', "ᴋʞƙ"),
    ('l', "ƖǀꞁꞮꟾʟł"),
    ('L', "Ł"),
    ('m', "ᴍɯ"),
    ('n', "ɴŋɲƞ"),
    ('o', "ᴏᴑꬽøɵ"),
    ('O', "Ø"),
    ('p', "ᴘƥ"),
    ('R', "ƦɌ"),
    ('r', "ꭇꭈʀɹɾᴦ"),
    ('s', "ƽꜱ"),
    ('t', "ᴛʇŧƭ"),
    ('T', "Ŧ"),
    ('u', "ᴜꞟꭎꭒʉ"),
    ('v', "ᴠʌ"),
    ('w', "ᴡꟺʍ"),
    ('X', "Ꭓ"),
    ('y', "ʏᶌỿꭚʎ"),
    ('Z', "Ⱬ"),
    ('z', "ᴢⱬƶ"),
];

/// The plain letter for a character in a table. A capital that the table does not contain is looked up by its small letter.
pub fn plain(table: &[(char, &str)], c: char) -> Option<char> {
    let find = |c: char| table.iter().find(|(_, letters)| letters.contains(c)).map(|&(letter, _)| letter);
    find(c).or_else(|| {
        let mut small = c.to_lowercase();
        let (only, None) = (small.next()?, small.next()) else { return None };
        if only == c { None } else { find(only).map(|letter| letter.to_ascii_uppercase()) }
    })
}
