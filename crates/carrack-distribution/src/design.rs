//! What is decided where the specifications leave a choice, or where carrack differs from Docker.
//!
//! **Where a password goes.** A credential belongs to the origin (scheme, host, port) that its registry name leads
//! to. Redirects and upload locations are followed to other origins, but without `Authorization` (nor does a
//! redirect back to the registry regain it), and a challenge is answered only when the registry's own origin makes it. A challenge may name a token server elsewhere: Docker Hub
//! and the public GitLab both do, so it cannot be refused outright. The token server gets the credential
//! when it is of the same origin, or when it is https *and* the challenge came over https (or loopback): such a
//! challenge is the registry's own word, and a registry that means ill could ask for the password itself. A plain
//! http token server of another origin never gets it by default. The user may narrow or widen this
//! ([`TokenRealms`](crate::TokenRealms)). Anonymous tokens may come from anywhere a redirect may lead.
//!
//! **What a token is asked for.** The scope comes from the operation, never from the challenge, so a registry cannot
//! have a token for one repository widened to another at a shared token server.
//!
//! **Downgrades.** No https URL leads to an http one, be it a redirect, an upload location, a token server or the next
//! page of a list. Plain HTTP is spoken to loopback and to hosts that the user lists, and only after the TLS
//! handshake failed. The handshake is tried once for each registry and client, without looking at the certificate: a
//! registry with a bad one must fail over TLS.
//!
//! **URLs with a password** (`https://user:pw@host/`) are refused wherever a registry sends them.
//!
//! **Foreign layers** (`urls` of a descriptor) are not fetched (CVE-2020-15157).
//!
//! **Retries.** Broken connections, 408, 429, 500, 502, 503 and 504 are repeated; TLS failures, other statuses and wrong
//! bytes are not. A `Retry-After` beyond the longest pause ends the operation, rather than hanging it or ignoring
//! the registry's wish.
//!
//! **HTTP/1.1 only**: parallel layers have a connection each, and nothing of HTTP/2 helps a registry client.
//!
//! **registries.conf** (containers-registries.conf(5), version 2) means what it means to podman, with these decisions.
//! A name without a registry is Docker's (`app` is `docker.io/library/app`) until an alias for it exists or
//! `unqualified-search-registries` is set; then only those count, in their order, and the image is recorded under the
//! full name that worked. Nobody is ever asked, so `permissive` tries all, and `enforcing` with several search
//! registries is an error. Aliases that podman recorded are read, none are written. Images that are here are looked
//! for under Docker's name, then `localhost/`, then the alias or the search registries. A table is chosen by the
//! whole name, tag and digest included, as the manual page has it. What is blocked is blocked as the name that the user
//! gave and as a place that another table leads to; a mirror that is blocked is left out. A mirror that fails in the
//! middle of a pull is followed by the next place: what is fetched has a digest, so it does not matter whose
//! it is. A push goes to the name as it is: mirrors and `location` are for readers. `CONTAINERS_REGISTRIES_CONF`
//! names the only file, without drop-ins. Version 1 is refused. Unknown keys are
//! passed over.
//!
//! **Where credentials are.** One auth file, Docker's unless the user names another, and the helpers of
//! `credential-helpers` of registries.conf in their order ([`Keychain`](crate::Keychain)). In the file, `credHelpers`
//! (one registry) wins over all entries, as containers-auth.json(5) has it; an entry with a path is for the repositories
//! below it, the longest first; `credsStore`, Docker's own, is asked before the entries, which still count where it has
//! nothing. A helper of registries.conf knows Docker Hub as `docker.io`, as podman asks it; one of the auth file by
//! Docker's URL.
//!
//! **`insecure`** allows plain HTTP, and certificates that are not trusted, of that registry's own host and port: not of
//! a token server or a redirect's target elsewhere. `--tls-verify=false` is the user's word for the command, and
//! holds for certificates of all hosts; plain HTTP stays with the registry's own. `--tls-verify=true` demands
//! TLS of loopback too.
//!
//! **certs.d**: authorities of a registry's folder vouch for whatever host its pull leads to, as for podman; a
//! certificate of our own is shown to the registry's own host and port alone.
//!
//! **Certificates** are those of the system, in the places where OpenSSL looks for them (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` included), and the extra files of the options; none are built in.
