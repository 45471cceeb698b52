//! The library equals the straight-line reference, for any key, window, token and parameter.

mod plain;

use plain::Plain;
use proptest::prelude::*;
use serde_json::{Value, json};
use watermark_core::fixed::neg_ln_q24;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::profile::{Mark, Profile};

/// A library mark and the reference's, from one JSON profile.
fn both(profile: &Value, key: [u8; 32], account: u32) -> (Mark, Plain) {
    let slot = SlotKey::from_parts(key, Epoch::new("e").unwrap(), 0);
    let parsed = Profile::from_json(&profile.to_string()).unwrap();
    let mark = parsed.bind_account(&slot, account).unwrap();
    (mark, Plain::new(profile, &key, account))
}

fn schemes() -> impl Strategy<Value = Value> {
    let gamma = prop_oneof![
        prop::sample::select(vec![0.5, 0.25, 0.75, 0.0625, 0.1, 0.3, 77.0 / 256.0]),
        0.0001..0.9999,
    ];
    prop_oneof![
        (0u8..=11, gamma.clone())
            .prop_map(|(h, g)| json!({"type": "greenlist", "context_width": h, "gamma": g, "delta": 2.0})),
        (1u8..=11, gamma).prop_map(
            |(h, g)| json!({"type": "greenlist-selfhash", "context_width": h, "gamma": g, "delta": 2.0})
        ),
        (1u8..=11).prop_map(|h| json!({"type": "gumbel", "context_width": h})),
        (1u8..=11).prop_map(|h| json!({"type": "gumbel-dual", "context_width": h})),
        (1u8..=11, 1u8..=255, 2u8..=255).prop_map(
            |(h, d, l)| json!({"type": "tournament", "context_width": h, "depth": d, "leaves": l})
        ),
    ]
}

/// Small ids too, so that windows repeat tokens and words are shared.
fn token() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..4, 0u32..260_000, any::<u32>()]
}

prop_compose! {
    fn profiles()(
        scheme in schemes(),
        account in prop_oneof![Just(0u32), 1u32..40, any::<u32>()],
        rounds in prop::sample::select(vec![8, 20]),
    ) -> (Value, u32) {
        let slot = if account == 0 { "provider" } else { "leak" };
        let profile = json!({
            "schema": "watermark.profile/1", "id": "x", "scheme": scheme,
            "slot": slot, "rounds": rounds, "repeated_contexts": "skip",
        });
        (profile, account)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rows_scores_and_masks(
        (profile, account) in profiles(),
        key in any::<[u8; 32]>(),
        window in prop::collection::vec(token(), 11),
        tokens in prop::collection::vec(token(), 1..8),
    ) {
        let (mark, plain) = both(&profile, key, account);
        let scheme = mark.scheme();
        let window = &window[..scheme.context_width()];
        let row = scheme.row(window);
        let seeds: Vec<[u8; 32]> = row.seeds().iter().map(watermark_core::prf::RowSeed::to_bytes).collect();
        prop_assert_eq!(seeds, plain.row(window));
        for &token in &tokens {
            prop_assert_eq!(scheme.score(&row, token), plain.score(window, token));
        }
        if let Some(biaser) = scheme.as_biaser() {
            let mut mask = [0; 3];
            biaser.fill_mask(&row, &mut mask);
            prop_assert_eq!(mask.to_vec(), plain.mask(window, 3));
        }
    }

    #[test]
    fn one_cell_is_one_coin(
        (profile, account) in profiles(),
        key in any::<[u8; 32]>(),
        window in prop::collection::vec(0u32..3, 11),
        other in prop::collection::vec(0u32..3, 11),
        tokens in prop::array::uniform2(0u32..3),
    ) {
        let (mark, plain) = both(&profile, key, account);
        let scheme = mark.scheme();
        let [a, b] = [&window, &other].map(|window| &window[..scheme.context_width()]);
        let cell = |window: &[u32], token| scheme.cell(&scheme.row(window), token);
        let coin = |window: &[u32], token| (plain.deciding(window, token), token);
        prop_assert_eq!(
            cell(a, tokens[0]) == cell(b, tokens[1]),
            coin(a, tokens[0]) == coin(b, tokens[1])
        );
        if scheme.cells_are_pairs() {
            prop_assert_eq!(coin(a, 0) == coin(b, 0), a == b);
        }
    }

    #[test]
    fn slots_and_names(master in any::<[u8; 32]>(), epoch in "[a-z0-9._-]{1,32}", index in any::<u32>()) {
        let key = MasterKey::from_bytes(master);
        prop_assert_eq!(*key.id().as_bytes(), plain::key_id(&master));
        let bytes = plain::slot_key(&master, &epoch, index);
        let slot = key.slot(&Epoch::new(&epoch).unwrap(), index);
        prop_assert_eq!(*slot.id().as_bytes(), plain::key_id(&bytes));
        prop_assert_eq!(
            slot.to_line().to_ascii_lowercase(),
            plain::bech32("wmk-slot-key-", &slot_payload(&bytes, &epoch, index), 0, plain::BECH32M)
        );
    }

    #[test]
    fn logarithms(r in any::<u32>()) {
        prop_assert_eq!(neg_ln_q24(r), plain::neg_ln_q24(r));
    }
}

fn slot_payload(key: &[u8; 32], epoch: &str, index: u32) -> Vec<u8> {
    [
        &index.to_le_bytes()[..],
        &[epoch.len() as u8],
        epoch.as_bytes(),
        key,
    ]
    .concat()
}

#[test]
fn the_reference_knows_published_vectors() {
    // RFC 4231, test case 2; RFC 5869, test case 1 (its first 32 bytes); RFC 8439, 2.3.2, whose
    // 96-bit nonce covers the high half of the counter here.
    assert_eq!(
        plain::hex(&plain::hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let (salt, info): (Vec<u8>, Vec<u8>) = ((0..13).collect(), (0xf0..=0xf9).collect());
    assert_eq!(
        plain::hex(&plain::hkdf(&salt, &[0x0b; 22], &info)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    );
    let seed = core::array::from_fn(|i| i as u8);
    let block = plain::chacha(&seed, 1 | 0x0900_0000 << 32, 0x4a00_0000, 0, 20);
    assert_eq!(
        block[..4],
        [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]
    );
}
