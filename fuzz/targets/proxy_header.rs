//! The PROXY header, version 2: the result is the same at every split, and a header never ends behind the bytes.

#![no_main]

use chat_server::wire::proxy::{ProxyHeader, SIGNATURE, read};
use libfuzzer_sys::fuzz_target;

fn check(bytes: &[u8]) {
    let whole = read(bytes);
    for end in 0..bytes.len() {
        let part = read(&bytes[..end]);
        assert!(part == ProxyHeader::Incomplete || part == whole, "{end} bytes: {part:?}, all: {whole:?}");
    }
    if let ProxyHeader::Complete { bytes: length, client } = whole {
        assert!(length <= bytes.len());
        assert_eq!(client, client.map(|address| address.to_canonical()));
    }
}

fuzz_target!(|data: &[u8]| {
    check(&data[..data.len().min(256)]);
    // Most random bytes have no signature.
    check(&[&SIGNATURE[..], &data[..data.len().min(244)]].concat());
});
