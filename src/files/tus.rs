//! The headers of the upload protocol tus 1.0.0 (<https://tus.io/protocols/resumable-upload>). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The version that the server speaks.
pub const VERSION: &str = "1.0.0";
/// `Tus-Extension`.
pub const EXTENSIONS: &str = "creation,expiration,checksum,termination";
/// `Tus-Checksum-Algorithm`.
pub const CHECKSUM_ALGORITHMS: &str = "sha256,sha1";
/// Keys of one `Upload-Metadata`.
const METADATA_KEYS_MAX: usize = 16;

/// A digest of the bytes of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// SHA-1; its strength does not matter against a faulty network.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// `Upload-Checksum: <algorithm> <base64>`.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn checksum(value: &str) -> Result<Checksum, &'static str> {
    let (algorithm, digest) = value.split_once(' ').ok_or("Upload-Checksum: Must be an algorithm and a digest.")?;
    let digest = STANDARD.decode(digest.trim()).map_err(|_| "Upload-Checksum: The digest must be in base64.")?;
    let wrong_length = "Upload-Checksum: The digest has a wrong length for its algorithm.";
    match algorithm {
        "sha1" => digest.try_into().map(Checksum::Sha1).map_err(|_| wrong_length),
        "sha256" => digest.try_into().map(Checksum::Sha256).map_err(|_| wrong_length),
        _ => Err("Upload-Checksum: The algorithm must be sha256 or sha1."),
    }
}

/// `Upload-Metadata: <key> <base64>, …`, in the order of the header.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn metadata(value: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut pairs = Vec::new();
    for pair in value.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        if pairs.len() == METADATA_KEYS_MAX {
            return Err("Upload-Metadata: Too many keys.");
        }
        let (key, encoded) = pair.split_once(' ').unwrap_or((pair, ""));
        let decoded = STANDARD.decode(encoded.trim()).map_err(|_| "Upload-Metadata: A value is not in base64.")?;
        let text = String::from_utf8(decoded).map_err(|_| "Upload-Metadata: A value is not UTF-8.")?;
        pairs.push((key.to_owned(), text));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_examples_of_the_protocol() {
        let read = metadata("filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential").unwrap();
        assert_eq!(
            read,
            [("filename".into(), "world_domination_plan.pdf".into()), ("is_confidential".into(), String::new())]
        );
        let sum = checksum("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").unwrap();
        assert!(matches!(sum, Checksum::Sha1([0x2a, 0xae, ..])));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for bad in ["", "sha1", "md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha1 %"] {
            assert!(checksum(bad).is_err(), "{bad}");
        }
        for bad in ["filename %%%", "filename /w==", &"a,".repeat(17)] {
            assert!(metadata(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_a_fault(value in any::<String>()) {
            let _ = (checksum(&value), metadata(&value));
        }
    }
}
