package proxy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// provider is an identity provider: it signs tokens, and can be away.
type provider struct {
	key *ecdsa.PrivateKey
	set []byte // its public keys
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &provider{key: key, set: []byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","use":"sig","alg":"ES256","x":"` +
		b64(public[1:33]) + `","y":"` + b64(public[33:]) + `"}]}`)}
}

// token signs claims on top of good ones; nil takes one away.
func (p *provider) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": "https://login.example.com", "aud": "dragoman", "sub": "canary-user", "uid": "canary-user-7", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"ES256","kid":"k1","typ":"JWT"}`)) + "." + b64(body)
	h := sha256.Sum256([]byte(text))
	der, err := p.key.Sign(rand.Reader, h[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	// A token has the two numbers of a signature side by side, not as ASN.1.
	sig := make([]byte, 64)
	rest := der[2:]
	for i := range 2 {
		n := int(rest[1])
		number := rest[2 : 2+n]
		rest = rest[2+n:]
		for len(number) > 32 {
			number = number[1:]
		}
		copy(sig[32*i+32-len(number):], number)
	}
	return text + "." + b64(sig)
}

// TestTokens lets an identity provider's tokens in beside keys: each subject has
// limits of its own, sees the agents that its token lists, and is named in the log;
// the token itself reaches no agent.
func TestTokens(t *testing.T) {
	t.Parallel()
	p, stranger := newProvider(t), newProvider(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, p.set, 0o600); err != nil {
		t.Fatal(err)
	}
	back := stage(t, func(v *visit) { v.json(200, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`) })
	r := start(t, authYAML("")+"  jwt: {issuer: \"https://login.example.com\", audience: [dragoman], jwks_file: "+file+", algorithms: [ES256], agents_claim: agents, principal_claim: uid}\n"+`
limits: {default: {requests: 2/h}}
agents:
  - {name: it, protocol: chat, url: "http://`+back.addr+`", model: m}
  - {name: secret, protocol: cycls, url: "demo:cycls"}
`)
	mine := map[string]any{"agents": []string{"it"}}
	ask := func(headers string) reply { return r.post("/agents/it/v1/chat/completions", chatHello, headers) }
	for i, left := range []string{"1", "0"} {
		if got := ask(bearer(p.token(t, mine))); got.status != 200 || got.header.Get("X-Ratelimit-Remaining-Requests") != left {
			t.Fatalf("%d: %d %v %s", i, got.status, got.header, got.body)
		}
		if v := <-back.seen; v.req.Header.Get("Authorization") != "" {
			t.Errorf("the agent got %q", v.req.Header.Get("Authorization"))
		}
	}
	if got := ask(bearer(p.token(t, mine))); got.status != 429 {
		t.Errorf("the third: %d", got.status)
	}
	if got := ask(bearer(p.token(t, map[string]any{"agents": "it", "uid": "somebody else"}))); got.status != 200 {
		t.Errorf("another subject: %d", got.status)
	}
	if got := ask(bearer(p.token(t, map[string]any{"agents": "it", "uid": "late", "exp": time.Now().Add(-5 * time.Second).Unix()}))); got.status != 200 {
		t.Errorf("within the leeway: %d", got.status)
	}
	if line := r.waitLog(1); line["key"] != "https://login.example.com|canary-user-7" {
		t.Errorf("logged as %v", line["key"])
	}
	if got := ask(bearer(goodKey)); got.status != 200 {
		t.Errorf("a key beside tokens: %d", got.status)
	}
	if got := r.ask("GET", "/v1/models", "", bearer(p.token(t, mine))); strings.Contains(got.body, "secret") || !strings.Contains(got.body, `"it"`) {
		t.Errorf("listing: %s", got.body)
	}
	if got := r.ask("GET", "/v1/models/secret", "", bearer(p.token(t, mine))); got.status != 404 {
		t.Errorf("out of scope: %d", got.status)
	}
	want := r.ask("GET", "/v1/models", "", "")
	for name, token := range map[string]string{
		"another's signature": stranger.token(t, mine), "another issuer": p.token(t, map[string]any{"iss": "https://evil.example.com"}),
		"another audience": p.token(t, map[string]any{"aud": "billing"}), "expired": p.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"without an end": p.token(t, map[string]any{"exp": nil}), "of nobody": p.token(t, map[string]any{"uid": nil}),
		"unsigned": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(p.token(t, mine), ".")[1] + ".",
	} {
		got := r.ask("GET", "/v1/models", "", bearer(token))
		if got.status != 401 || got.body != want.body || got.header.Get("Www-Authenticate") != want.header.Get("Www-Authenticate") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	for _, l := range r.logs.All() {
		if s, _ := l.ContextMap()["error"].(string); strings.Contains(s, "eyJ") {
			t.Errorf("a token in the log: %v", l.ContextMap())
		}
	}
}

// TestTokensWithoutKeys says 503, and not ready, as long as the provider's keys
// have never been had: nobody knows whether a token is good.
func TestTokensWithoutKeys(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var there atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !there.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(p.set)
	}))
	t.Cleanup(srv.Close)
	r := start(t, "auth:\n  jwt: {issuer: \"https://login.example.com\", audience: [dragoman], jwks_url: \""+srv.URL+"\", algorithms: [ES256]}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	got := r.ask("GET", "/v1/models", "", bearer(p.token(t, nil)))
	if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "authentication_unavailable") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if ready, reasons := r.ready(); ready || !strings.Contains(strings.Join(reasons, "\n"), "issuer's keys") {
		t.Errorf("ready %v: %q", ready, reasons)
	}
	if got := r.ask("GET", "/v1/models", "", bearer("no-token-at-all-0123456789")); got.status != 401 {
		t.Errorf("no token: %d", got.status)
	}
}
