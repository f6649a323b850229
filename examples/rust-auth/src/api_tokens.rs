//! API tokens: random texts. Whose they are is in the KV namespace `API_TOKENS`, under the token's
//! SHA-256, so that who reads the namespace can use none of them:
//!
//! ```sh
//! token=$(openssl rand -base64 32)
//! wrangler kv key put --binding API_TOKENS "$(printf %s "$token" | sha256sum | cut -d' ' -f1)" \
//!   '{"user": "alice", "teams": ["a"], "createdAt": 1790000000000, "expiresAt": 1890000000000}'
//! ```

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tidewire::protocol::{Code, Problem};
use tidewire::workers::Authenticator;
use tidewire::{AuthError, Claims, Config, Credentials, Identity, Millis, Space};
use worker::{Env, console_error};

pub(crate) struct ApiTokens;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    user: String,
    teams: Vec<String>,
    created_at: u64,
    expires_at: u64,
}

impl Authenticator for ApiTokens {
    async fn authenticate(
        &self,
        credentials: &Credentials,
        _space: &Space,
        env: &Env,
        _config: &Config,
    ) -> Result<Option<Claims>, Problem> {
        let Some(token) = &credentials.token else {
            return Ok(None);
        };
        let record = find(token, env).await.map_err(|error| {
            console_error!("API_TOKENS: {error}");
            Problem::new(Code::Unavailable, "tokens cannot be looked up now")
        })?;
        let record = record.ok_or(AuthError::Invalid)?;
        let user = Identity::parse(&record.user).map_err(|_| AuthError::Invalid)?;
        let topics: Vec<_> = record.teams.iter().map(|t| format!("team:{t}")).collect();
        let claims = Claims::new(user, Millis(record.expires_at))
            .issued_at(Millis(record.created_at))
            .with_topics(topics.iter().map(String::as_str))?;
        Ok(Some(claims))
    }
}

/// KV may answer with what was true a minute ago: so long a token lives on that was deleted.
async fn find(token: &str, env: &Env) -> worker::Result<Option<Record>> {
    let hash = Sha256::digest(token);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(env.kv("API_TOKENS")?.get(&hash).json().await?)
}
