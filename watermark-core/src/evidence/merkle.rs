//! The Merkle tree of RFC 6962, section 2.1, over SHA-256.
//!
//! ```text
//! MTH({d}) = SHA256(0x00 || d)        MTH(D) = SHA256(0x01 || MTH(left) || MTH(right))
//! ```
//!
//! The left part has the largest power of two of leaves that is below their number. Leaves and nodes are
//! hashed under different first bytes, so that no node can be shown as a leaf.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(data)
        .finalize()
        .into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The largest power of two below `n`, for `n` from 2.
fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// The root of a tree of these leaf hashes; of none, SHA-256 of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes that lead from leaf `index` to the root, from below (the audit path of section 2.1.1);
/// `None` if there is no such leaf.
pub fn inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut index) = (leaves, index);
    let mut path = Vec::new();
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len()));
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The root that a leaf hash and its path lead to in a tree of `size` leaves (RFC 9162, section
/// 2.1.3.2); `None` if the path is too long or too short, or there is no such leaf.
pub fn root_from(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for beside in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            // The last leaf of a level may have no neighbour for several levels.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;

    use super::*;

    fn hashes(data: &[Vec<u8>]) -> Vec<Hash> {
        data.iter().map(|data| leaf(data)).collect()
    }

    /// The tree that implementations of RFC 6962 test with, from the reference implementation's tests.
    #[test]
    fn known_roots() {
        let data: Vec<Vec<u8>> = [
            &[][..],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        let leaves = hashes(&data);
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, wanted) in roots.iter().enumerate() {
            assert_eq!(crate::hex(&root(&leaves[..size])), *wanted, "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Root and every path are those of an independent implementation.
        #[test]
        fn as_another_implementation(data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..70)) {
            let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            data.iter().for_each(|data| other.push(data.clone()));
            let leaves = hashes(&data);
            let wanted = root(&leaves);
            let theirs = other.root();
            prop_assert_eq!(&wanted[..], &theirs.as_bytes()[..]);
            for index in 0..data.len() {
                let path = inclusion(&leaves, index).unwrap();
                let theirs = other.prove_inclusion(index);
                prop_assert_eq!(path.concat(), theirs.as_bytes());
                let found = root_from(&leaves[index], index as u64, data.len() as u64, &path);
                prop_assert_eq!(found, Some(wanted));
            }
        }

        /// Another leaf, place, size or path leads elsewhere.
        #[test]
        fn nothing_else_leads_to_the_root(size in 2..70usize, index in 0..70usize, flip in 0..256usize) {
            let index = index % size;
            let leaves: Vec<Hash> = (0..size).map(|n| leaf(&n.to_le_bytes())).collect();
            let wanted = Some(root(&leaves));
            let path = inclusion(&leaves, index).unwrap();
            let leads = |leaf: &Hash, index: usize, path: &[Hash]| root_from(leaf, index as u64, size as u64, path);
            let other = (index + 1) % size;
            prop_assert_ne!(leads(&leaves[other], index, &path), wanted);
            prop_assert_ne!(leads(&leaves[index], other, &path), wanted);
            prop_assert_ne!(leads(&leaves[index], index, &path[1..]), wanted);
            prop_assert_ne!(leads(&leaves[index], index, &[&path[..], &path[..1]].concat()), wanted);
            let mut bent = path.clone();
            let at = flip % path.len();
            bent[at][flip / 8] ^= 1 << (flip % 8);
            prop_assert_ne!(leads(&leaves[index], index, &bent), wanted);
            prop_assert_eq!(inclusion(&leaves, size), None);
            prop_assert_eq!(leads(&leaves[index], size, &path), None);
        }
    }
}
