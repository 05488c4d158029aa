//! Uploads over HTTP, as tus 1.0 has them, and what they leave.

use super::process::Server;
use super::users::User;
use super::values::PATIENCE;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

impl Server {
    /// Sends a request with header fields and a body of any kind.
    pub async fn send(
        &self,
        user: &User,
        method: &str,
        path: &str,
        fields: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", self.base_url));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.bearer_auth(&user.token).body(body).send().await.unwrap()
    }

    /// Begins an upload. Returns its id.
    pub async fn begin_upload(&self, user: &User, given: &Value) -> i64 {
        let response = self.send(user, "POST", "/files", &[], given.to_string().into_bytes()).await;
        let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 201, "{given}: {answer}");
        assert_eq!(answer["upload_url"], format!("/files/{}", answer["file_id"]));
        answer["file_id"].as_i64().unwrap()
    }

    /// The request that appends bytes to an upload.
    pub fn appending(&self, user: &User, file: i64, offset: usize, bytes: Vec<u8>) -> RequestBuilder {
        reqwest::Client::new()
            .patch(format!("{}/files/{file}", self.base_url))
            .bearer_auth(&user.token)
            .header("content-type", "application/offset+octet-stream")
            .header("tus-resumable", "1.0.0")
            .header("upload-offset", offset.to_string())
            .body(bytes)
    }

    /// Appends bytes to an upload.
    pub async fn append_upload(&self, user: &User, file: i64, offset: usize, bytes: &[u8]) -> Response {
        self.appending(user, file, offset, bytes.to_vec()).send().await.unwrap()
    }

    /// The bytes that an upload has.
    pub async fn upload_offset(&self, user: &User, file: i64) -> usize {
        let head = self.send(user, "HEAD", &format!("/files/{file}"), &[], vec![]).await;
        assert_eq!(head.status(), 200);
        head.headers()["upload-offset"].to_str().unwrap().parse().unwrap()
    }

    /// What a file has become when its check has ended.
    pub async fn settled(&self, user: &User, file: i64) -> Value {
        let started = Instant::now();
        loop {
            let response = self.send(user, "GET", &format!("/files/{file}"), &[], vec![]).await;
            assert_eq!(response.status(), 200);
            let shown: Value = response.json().await.unwrap();
            if shown["state"] != "scanning" {
                return shown;
            }
            assert!(started.elapsed() < PATIENCE, "{shown}: {}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Uploads a whole file. Returns its id and what it has become.
    pub async fn upload(&self, user: &User, room: &str, name: &str, bytes: &[u8]) -> (i64, Value) {
        let given = json!({"conversation_id": room, "name": name, "size": bytes.len()});
        let file = self.begin_upload(user, &given).await;
        if !bytes.is_empty() {
            assert_eq!(self.append_upload(user, file, 0, bytes).await.status(), 204);
        }
        (file, self.settled(user, file).await)
    }

    /// Files below `data_dir/files`.
    pub fn stored_files(&self) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.data_dir.join("files")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }

    /// Waits until `count` files are below `data_dir/files`.
    pub async fn stores(&self, count: usize) {
        let started = Instant::now();
        while self.stored_files().len() != count {
            assert!(started.elapsed() < PATIENCE, "{:?}: {}", self.stored_files(), self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
