//! Why an upload is refused, or a file fails its check: `details.reason` of refusals, and `failure` of files. Clients
//! choose their words by it, so a code never changes its meaning.

use serde_json::{Map, Value, json};

macro_rules! file_reasons {
    ($($variant:ident $code:literal $doc:literal;)*) => {
        /// The reason, as programs know it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum FileReason { $(#[doc = $doc] $variant,)* }

        impl FileReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

file_reasons! {
    UploadsOff "uploads_off" "The server has no files.";
    TooLarge "too_large" "The file is larger than `limits.max_file_size`.";
    TooManyBytes "too_many_bytes" "The body has more bytes than the upload lacks.";
    UserQuota "user_quota" "The files of the user would take too much.";
    ServerQuota "server_quota" "All files would.";
    TooManyUnfinished "too_many_unfinished" "The user has too many unfinished uploads.";
    TooManyUploads "too_many_uploads" "The user has begun too many uploads within an hour.";
    DiskFull "disk_full" "The disk has no room now.";
    DiskUnavailable "disk_unavailable" "The disk fails.";
    StoreUnavailable "store_unavailable" "The bucket does not answer.";
    BytesLost "bytes_lost" "The server no longer has the bytes that it received.";
    WrongHash "wrong_hash" "The content has another SHA-256 than its uploader gave.";
    TypeNotAllowed "type_not_allowed" "`files.allowed_types` does not have its type.";
    WrongExtension "wrong_extension" "The content is not what the extension says.";
    WrongType "wrong_type" "The content is not of the type that its uploader gave.";
    TooManyPixels "too_many_pixels" "The picture is larger than anybody should decode.";
    UnreadablePicture "unreadable_picture" "The picture cannot be decoded.";
    Implausible "implausible" "It has properties that no file has.";
    VirusFound "virus_found" "A virus was found.";
    Unscannable "unscannable" "The virus scanner works, but not on this file.";
}

impl FileReason {
    /// `details` of a refusal.
    #[must_use]
    pub fn details(self) -> Value {
        json!({"reason": self.as_str()})
    }
}

/// Why a file fails its check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileFailure {
    /// For its uploader.
    pub sentence: String,
    /// The reason, and what was found.
    details: Map<String, Value>,
}

impl FileFailure {
    /// A reason in both forms.
    #[must_use]
    pub fn new(reason: FileReason, sentence: impl Into<String>) -> Self {
        let details = Map::from_iter([("reason".to_owned(), reason.as_str().into())]);
        Self { sentence: sentence.into(), details }
    }

    /// The same with something that was found, for clients that have sentences of their own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// `failure` of the file.
    #[must_use]
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_is_documented() {
        let codes: BTreeSet<&str> = FileReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), FileReason::ALL.len());
        let documents = [include_str!("../../docs/openapi.yaml"), include_str!("../../docs/asyncapi.yaml")];
        for document in documents {
            let listed = document.split_once("    FileReason:\n").unwrap().1.split_once("enum:\n").unwrap().1;
            let listed = listed.lines().map_while(|line| line.trim_start().strip_prefix("- "));
            assert_eq!(listed.collect::<BTreeSet<_>>(), codes);
        }
        let prose = include_str!("../../docs/files.md");
        let missing: Vec<_> = codes.into_iter().filter(|code| !prose.contains(&format!("| `{code}` |"))).collect();
        assert_eq!(missing, [""; 0], "docs/files.md");
    }

    #[test]
    fn a_failure_says_what_was_found() {
        let failure = FileFailure::new(FileReason::VirusFound, "A virus was found: X.").with("virus", "X");
        assert_eq!(Value::from(failure.details().clone()), json!({"reason": "virus_found", "virus": "X"}));
    }
}
