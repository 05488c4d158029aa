//! Where `security.registration_proof` is on, a registration brings a proof of work.
//!
//! How: the test solves the challenge of the server, and sends false and used proofs.

use crate::support::{PASSWORD, Server, code, text, unique};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const DIFFICULTY: u32 = 10;

async fn challenge(server: &Server) -> String {
    let (status, answer) = server.request(Method::GET, "/auth/register/challenge", None, None).await;
    assert_eq!((status, &answer["difficulty"]), (200, &json!(DIFFICULTY)));
    text(&answer["challenge"]).to_owned()
}

fn solved(challenge: &str) -> Value {
    let zeros = |nonce: &String| {
        let digest = Sha256::digest(format!("{challenge}:{nonce}"));
        u32::from_be_bytes(digest[..4].try_into().unwrap()).leading_zeros()
    };
    let nonce = (0..1_000_000u64).map(|nonce| nonce.to_string()).find(|nonce| zeros(nonce) >= DIFFICULTY).unwrap();
    json!({"challenge": challenge, "nonce": nonce})
}

async fn register(server: &Server, proof: Option<&Value>) -> (u16, Value) {
    let name = unique("Worker");
    let mut body = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD});
    if let Some(proof) = proof {
        body["proof"] = proof.clone();
    }
    server.post("/auth/register", None, &body).await
}

#[tokio::test]
async fn registers_with_each_proof_once() {
    let settings = [("security.registration_proof", "proof_of_work"), ("security.registration_difficulty", "10")];
    let server = Server::start(1, &settings);
    let proof = solved(&challenge(&server).await);
    let unsolved = json!({"challenge": challenge(&server).await, "nonce": "none"});
    let foreign = solved("AAAA");
    for (what, proof) in [("no proof", None), ("an unsolved one", Some(&unsolved)), ("a foreign one", Some(&foreign))] {
        let (status, problem) = register(&server, proof).await;
        assert_eq!((status, code(&problem).as_str()), (400, "bad_request"), "{what}: {problem}");
        assert!(text(&problem["detail"]).starts_with("proof"), "{problem}");
    }
    assert_eq!(register(&server, Some(&proof)).await.0, 201);
    let (status, problem) = register(&server, Some(&proof)).await;
    assert_eq!(status, 400, "{problem}");
    assert!(text(&problem["detail"]).contains("used already"), "{problem}");
    // The key of the challenges is that of the server, not of the process.
    let proof = solved(&challenge(&server).await);
    server.kill9();
    server.start_again();
    let (status, answer) = register(&server, Some(&proof)).await;
    assert_eq!(status, 201, "{answer}");
}
