package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tokenMalformed = "rejected: malformed token"
	tokenAlgorithm = "rejected: token with an algorithm that is not allowed"
	tokenType      = "rejected: token of another type"
	tokenCritical  = "rejected: token with a critical extension"
	tokenKey       = "rejected: token signed with an unknown key"
	tokenSignature = "rejected: token with a wrong signature"
	tokenIssuer    = "rejected: token of another issuer"
	tokenAudience  = "rejected: token for another audience"
	tokenEndless   = "rejected: token without an expiry"
	tokenExpired   = "rejected: expired token"
	tokenNotYet    = "rejected: token that is not valid yet"
	tokenPrincipal = "rejected: token without a usable principal"
	tokenAgents    = "rejected: token with an unreadable list of agents"
	me             = issuer + "|me"
)

// TestTokensOfEveryAlgorithm are accepted, once from their signature and once from memory.
func TestTokensOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("r", rsaOne()), jwk("e", ecOne()), jwk("e3", ecP384()), jwk("e5", ecP521()), jwk("d", ed()))
	for alg, signer := range map[string]struct {
		kid string
		key any
	}{
		"RS256": {"r", rsaOne()}, "RS384": {"r", rsaOne()}, "RS512": {"r", rsaOne()}, "PS256": {"r", rsaOne()}, "PS384": {"r", rsaOne()},
		"PS512": {"r", rsaOne()}, "ES256": {"e", ecOne()}, "ES384": {"e3", ecP384()}, "ES512": {"e5", ecP521()}, "EdDSA": {"d", ed()},
	} {
		for _, header := range []object{{"alg": alg, "kid": signer.kid}, {"alg": alg}} {
			token := sign(signer.key, header, good())
			for range 2 {
				p, err := a.Authenticate(present(token), now)
				if err != nil || p.Name != me || !p.Token || p.Agents != nil || !p.May("anything") {
					t.Errorf("%v: %+v, %v", header, p, err)
				}
			}
			// The smallest change breaks it.
			dot := strings.LastIndexByte(token, '.')
			for _, i := range []int{5, dot / 2, dot + 5} {
				broken := []byte(token)
				broken[i] ^= 1
				if p, err := a.Authenticate(present(string(broken)), now); err == nil || !errors.Is(err, ErrRejected) && !errors.Is(err, ErrConflict) {
					t.Errorf("%v with byte %d changed: %v, %v", header, i, p, err)
				}
			}
		}
	}
}

// TestClaims is the table of what a token says, and what becomes of it.
func TestClaims(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	f := func(claims object, want string) {
		t.Helper()
		token := sign(ecOne(), object{"kid": "e"}, claims)
		for range 2 { // a refusal is not remembered as something else
			if got := outcome(a.Authenticate(present(token), now)); got != want {
				t.Errorf("%s: %s, want %s", claims.json(), got, want)
			}
		}
	}
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	f(good(), me)

	f(good().with("iss", nil), tokenIssuer)
	f(good().with("iss", ""), tokenIssuer)
	f(good().with("iss", issuer+"/"), tokenIssuer)
	f(good().with("iss", strings.ToUpper(issuer)), tokenIssuer)
	f(good().with("iss", []string{issuer}), tokenMalformed)
	f(good().with("iss", 1), tokenMalformed)

	f(good().with("aud", nil), tokenAudience)
	f(good().with("aud", ""), tokenAudience)
	f(good().with("aud", "another"), tokenAudience)
	f(good().with("aud", "other"), me) // any of ours
	f(good().with("aud", []string{}), tokenAudience)
	f(good().with("aud", []string{"another"}), tokenAudience)
	f(good().with("aud", []string{"another", audience}), me)
	f(good().with("aud", []any{"another", 1, audience}), tokenMalformed)
	f(good().with("aud", audience+" another"), tokenAudience)
	f(good().with("aud", object{"dragoman": true}), tokenMalformed)

	f(good().with("exp", nil), tokenEndless)
	f(good().with("exp", fmt.Sprint(at(time.Hour))), tokenMalformed)
	f(good().with("exp", true), tokenMalformed)
	f(good().with("exp", 0), tokenExpired)
	f(good().with("exp", -1), tokenExpired)
	f(good().with("exp", at(-time.Hour)), tokenExpired)
	f(good().with("exp", at(-31*time.Second)), tokenExpired)
	f(good().with("exp", at(-30*time.Second)), tokenExpired) // on or after
	f(good().with("exp", at(-29*time.Second)), me)           // within the leeway
	f(good().with("exp", float64(at(time.Hour))+0.5), me)
	f(good().with("exp", 1e300), tokenMalformed)
	f(good().with("exp", json.RawMessage("9223372036854775807")), tokenMalformed)
	f(good().with("exp", json.RawMessage("4611686018427387903")), tokenMalformed)
	f(good().with("exp", json.RawMessage("253402300799")), me)
	f(good().with("exp", json.RawMessage("null")), tokenEndless)

	f(good().with("nbf", nil), me)
	f(good().with("nbf", at(30*time.Second)), me)
	f(good().with("nbf", at(31*time.Second)), tokenNotYet)
	f(good().with("nbf", 1e300), tokenMalformed)
	f(good().with("nbf", "now"), tokenMalformed)
	f(good().with("iat", nil), me)
	f(good().with("iat", at(30*time.Second)), me)
	f(good().with("iat", at(31*time.Second)), tokenNotYet)

	f(good().with("sub", nil), tokenPrincipal)
	f(good().with("sub", ""), tokenPrincipal)
	f(good().with("sub", 17), tokenMalformed)
	f(good().with("sub", []string{"me"}), tokenMalformed)
	f(good().with("sub", strings.Repeat("a", 256)), issuer+"|"+strings.Repeat("a", 256))
	f(good().with("sub", strings.Repeat("a", 257)), tokenPrincipal)
	f(good().with("sub", "a\nb"), tokenPrincipal)
	f(good().with("sub", "a\x00b"), tokenPrincipal)
	f(good().with("sub", "a\u202eb"), tokenPrincipal)
	f(good().with("sub", "a\u200bb"), tokenPrincipal)
	f(good().with("sub", "a\ufffdb"), tokenPrincipal)
	f(good().with("sub", json.RawMessage(`"a\ud800b"`)), tokenPrincipal)
	f(good().with("sub", "auth0|17"), issuer+"|auth0|17")
	f(good().with("sub", "Zoë Ångström"), issuer+"|Zoë Ångström")
}

// TestPayloadsThatAreNoClaims are refused, signed or not.
func TestPayloadsThatAreNoClaims(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	claims := string(good().json())
	for payload, want := range map[string]string{
		"": tokenMalformed, "null": tokenIssuer, "[]": tokenMalformed, "1": tokenMalformed, "{": tokenMalformed, claims + "x": tokenMalformed,
		claims[:len(claims)-1] + `,"sub":"you"}`:           tokenMalformed, // which of them counts would be a guess
		claims[:len(claims)-1] + `,"s\u0075b":"you"}`:      tokenMalformed,
		claims[:len(claims)-1] + `,"Sub":"you"}`:           me, // another claim
		strings.Replace(claims, `"sub"`, `"SUB"`, 1):       tokenPrincipal,
		strings.Replace(claims, `"me"`, "\"a\xffb\"", 1):   tokenPrincipal,
		strings.Repeat("[", 3000):                          tokenMalformed,
		`{"a":` + strings.Repeat(`{"a":`, 800) + `1`:       tokenMalformed,
		claims[:len(claims)-1] + `,"big":` + "1e999" + `}`: me, // not ours to read
	} {
		if got := outcome(a.Authenticate(present(signRaw(ecOne(), "ES256", []byte(`{"alg":"ES256","kid":"e"}`), []byte(payload))), now)); got != want {
			t.Errorf("%.80q: %s, want %s", payload, got, want)
		}
	}
}

// TestHeaders is the table of what a token's header says.
func TestHeaders(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	f := func(header object, want string) {
		t.Helper()
		if got := outcome(a.Authenticate(present(sign(ecOne(), header, good())), now)); got != want {
			t.Errorf("%s: %s, want %s", header.json(), got, want)
		}
	}
	f(object{"kid": "e"}, me)
	for _, typ := range []string{"JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"} {
		f(object{"typ": typ}, me)
	}
	for _, typ := range []any{"", "logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "JWE", 1, []string{"JWT"}} {
		f(object{"typ": typ}, tokenType)
	}
	f(object{"cty": "JWT"}, tokenType)
	f(object{"crit": []string{"exp"}, "exp": 1}, tokenCritical)
	f(object{"crit": []string{"b64"}, "b64": true}, tokenCritical)
	f(object{"crit": []string{}}, tokenCritical)
	f(object{"crit": "none"}, tokenCritical)
	f(object{"b64": false}, tokenCritical)
	f(object{"kid": 1}, tokenMalformed)
	f(object{"kid": ""}, me) // names none
	for _, kid := range []string{"E", "e ", "e\x00", "../../../dev/null", "' OR 1=1 --", "e' UNION SELECT 'x", "|id", "*", "https://attacker.test/jwks", strings.Repeat("e", 4000)} {
		f(object{"kid": kid}, tokenKey)
	}
}

// TestAlgorithmConfusion: a signature counts only with an algorithm that was allowed and a key of its type. The public key
// is no secret, in whatever form, and no signature is none.
func TestAlgorithmConfusion(t *testing.T) {
	t.Parallel()
	r, e := jwk("r", rsaOne()), jwk("e", ecOne())
	a := tokens(t, r, e, jwk("e3", ecP384()), jwk("d", ed()))
	f := func(token, want string) {
		t.Helper()
		if got := outcome(a.Authenticate(present(token), now)); got != want {
			t.Errorf("%.100s…: %s, want %s", token, got, want)
		}
	}
	for _, signer := range []struct {
		kid string
		key any
		jwk object
	}{{"r", &rsaOne().PublicKey, r}, {"e", &ecOne().PublicKey, e}} {
		der := must(x509.MarshalPKIXPublicKey(signer.key))
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		secrets := [][]byte{der, text, bytes.TrimSpace(text), signer.jwk.json(), jwks(signer.jwk), {}, []byte("secret")}
		if n, ok := signer.jwk["n"].(string); ok {
			secrets = append(secrets, []byte(n), must(base64.RawURLEncoding.DecodeString(n)), x509.MarshalPKCS1PublicKey(&rsaOne().PublicKey))
		}
		for _, secret := range secrets {
			for _, alg := range []string{"HS256", "hs256", "HS384", "HS512", "none", "None", "NONE", "nOnE", ""} {
				f(sign(secret, object{"alg": alg, "kid": signer.kid}, good()), tokenAlgorithm)
			}
			// A MAC under an honest name is no signature either.
			f(sign(secret, object{"alg": usual(rsaOne()), "kid": "r"}, good()), tokenSignature)
			f(sign(secret, object{"alg": "ES256", "kid": "e"}, good()), tokenSignature)
		}
	}
	// None, without a signature at all.
	for _, alg := range []any{"none", "None", "NONE", "", nil, 1, []string{"RS256"}, "RS256 ", "rs256", "ES256K", "Ed25519", "RSA-OAEP", "dir"} {
		header := must(json.Marshal(object{"alg": alg, "kid": "r"}))
		for _, signature := range []string{"", "AA", b64(make([]byte, 256))} {
			got := outcome(a.Authenticate(present(b64(header)+"."+b64(good().json())+"."+signature), now))
			if got != tokenAlgorithm && got != tokenMalformed {
				t.Errorf("%s with signature %q: %s", header, signature, got)
			}
		}
	}
	f(b64([]byte(`{"kid":"r"}`))+"."+b64(good().json())+".", tokenAlgorithm)
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		for _, kid := range []string{"r", "e", "d"} {
			f(b64(object{"alg": alg, "kid": kid}.json())+"."+b64(good().json())+".", tokenSignature)
			f(b64(object{"alg": alg, "kid": kid}.json())+"."+b64(good().json())+"."+b64(make([]byte, 64)), tokenSignature) // r = s = 0
		}
	}
	// Good signatures of another algorithm, key or curve than the header and the key set say.
	f(sign(rsaOne(), object{"alg": "RS256", "kid": "e"}, good()), tokenSignature)
	f(sign(ecOne(), object{"alg": "ES256", "kid": "r"}, good()), tokenSignature)
	f(sign(ecP384(), object{"alg": "ES256", "kid": "e3"}, good()), tokenSignature) // the wrong curve
	f(sign(ecOne(), object{"alg": "ES384", "kid": "e"}, good()), tokenSignature)
	f(sign(ecTwo(), object{"kid": "e"}, good()), tokenSignature)
	f(sign(ecTwo(), object{}, good()), tokenKey)
	f(signRaw(rsaOne(), "PS256", object{"alg": "RS256", "kid": "r"}.json(), good().json()), tokenSignature)
	f(signRaw(rsaOne(), "RS512", object{"alg": "RS256", "kid": "r"}.json(), good().json()), tokenSignature)
}

// TestOnlyTheAllowedAlgorithms: what the configuration does not name is refused, although the key could do it.
func TestOnlyTheAllowedAlgorithms(t *testing.T) {
	t.Parallel()
	c := everyAlgorithm(jwks(jwk("r", rsaOne()), jwk("e", ecOne()), jwk("d", ed())))
	f := func(allowed []string, key any, alg, kid, want string) {
		t.Helper()
		c := c
		c.Algorithms = allowed
		a := newTest(t, Config{Tokens: newTokens(t, c)})
		if got := outcome(a.Authenticate(present(sign(key, object{"alg": alg, "kid": kid}, good())), now)); got != want {
			t.Errorf("%s where %v is allowed: %s, want %s", alg, allowed, got, want)
		}
	}
	f(nil, rsaOne(), "RS256", "r", me)
	f(nil, ecOne(), "ES256", "e", me)
	f(nil, rsaOne(), "RS384", "r", tokenAlgorithm)
	f(nil, rsaOne(), "PS256", "r", tokenAlgorithm)
	f(nil, ed(), "EdDSA", "d", tokenAlgorithm)
	f([]string{"ES256"}, rsaOne(), "RS256", "r", tokenAlgorithm)
	f([]string{"PS256"}, rsaOne(), "PS256", "r", me)
	f([]string{"PS256", "EdDSA"}, ed(), "EdDSA", "d", me)
	f([]string{"PS256", "PS256"}, rsaOne(), "RS256", "r", tokenAlgorithm)
}

// TestKeysInAHeaderAreIgnored: a token does not say whom to believe, and makes nobody fetch anything.
func TestKeysInAHeaderAreIgnored(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	attacker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(jwks(jwk("e", ecTwo())))
	}))
	defer attacker.Close()
	a := tokens(t, jwk("e", ecOne()))
	certificate := must(x509.CreateCertificate(rand.Reader, template(), template(), &ecTwo().PublicKey, ecTwo()))
	for _, header := range []object{
		{"jwk": jwk("e", ecTwo())}, {"jku": attacker.URL}, {"x5u": attacker.URL},
		{"x5c": []string{base64.StdEncoding.EncodeToString(certificate)}},
		{"jku": attacker.URL, "jwk": jwk("e", ecTwo()), "x5u": attacker.URL},
	} {
		if got := outcome(a.Authenticate(present(sign(ecTwo(), header.with("kid", "e"), good())), now)); got != tokenSignature {
			t.Errorf("%s: %s", header.json(), got)
		}
		if got := outcome(a.Authenticate(present(sign(ecTwo(), header, good())), now)); got != tokenKey {
			t.Errorf("%s without kid: %s", header.json(), got)
		}
		if got := outcome(a.Authenticate(present(sign(ecOne(), header.with("kid", "e"), good())), now)); got != me {
			t.Errorf("%s beside a good signature: %s", header.json(), got)
		}
	}
	for _, bad := range []object{{"jwk": jwk("k", hmacOnly)}, {"jwk": jwk("e", ecTwo(), "d", "AA")}, {"jwk": 1}, {"x5c": "x"}, {"x5c": []string{"x"}}} {
		if got := outcome(a.Authenticate(present(sign(ecOne(), bad.with("kid", "e"), good())), now)); got != tokenMalformed {
			t.Errorf("%s: %s", bad.json(), got)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the server that a header names was asked %d times", n)
	}
}

func template() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour)}
}

// TestMalformedTokens are refused as such, or as the keys that they are not.
func TestMalformedTokens(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	token := sign(ecOne(), object{"kid": "e"}, good())
	part := strings.Split(token, ".")
	const unknown, malformed = "rejected: unknown key", "rejected: malformed credential"
	for bearer, want := range map[string]string{
		"..":                                               malformed, // too short for anything
		"...........................":                      unknown,
		"....................":                             unknown,
		strings.Repeat(".", 8192):                          unknown,
		strings.Repeat(".", 8193):                          malformed,
		part[0] + "." + part[1]:                            unknown,
		token + ".":                                        unknown,
		token + "." + part[2]:                              unknown,
		token + ".a.b":                                     unknown, // an encrypted one has five parts
		"." + part[1] + "." + part[2]:                      tokenAlgorithm,
		part[0] + ".." + part[2]:                           tokenSignature,
		part[0] + "." + part[1] + ".":                      tokenSignature,
		token + "=":                                        tokenMalformed,
		token + "==":                                       tokenMalformed,
		"aGVsbG8.aGVsbG8.aGVsbG8":                          tokenMalformed,
		"e30." + part[1] + "." + part[2]:                   tokenAlgorithm,
		"W10." + part[1] + "." + part[2]:                   tokenMalformed,
		strings.Repeat("a", 8000) + ".a.a":                 tokenMalformed,
		"a." + strings.Repeat("a", 8000) + ".a":            tokenMalformed,
		b64([]byte(strings.Repeat("[", 6000))) + ".e30.AA": tokenMalformed,
		b64([]byte(`{"alg":"ES256","alg":"ES256"}`)) + "." + part[1] + ".AA": tokenMalformed,
		b64([]byte(`{"alg":"ES256","kid":"e"}x`)) + "." + part[1] + ".AA":    tokenMalformed,
		strings.ReplaceAll(token, "_", "/") + strings.Repeat("+", 1):         tokenMalformed,
	} {
		if got := outcome(a.Authenticate(present(bearer), now)); got != want {
			t.Errorf("%.60q: %s, want %s", bearer, got, want)
		}
	}
	// A token is a bearer, and x-api-key holds keys.
	if got := outcome(a.Authenticate(Presented{APIKey: []byte(token)}, now)); got != unknown {
		t.Errorf("in x-api-key: %s", got)
	}
	if got := outcome(a.Authenticate(Presented{Authorization: []byte("Bearer " + token), APIKey: []byte(token)}, now)); got != me {
		t.Errorf("in both: %s", got)
	}
	if got := outcome(a.Authenticate(Presented{Authorization: []byte("Bearer " + token), APIKey: []byte(liveKey)}, now)); got != "conflict" {
		t.Errorf("beside a key: %s", got)
	}
	long := sign(ecOne(), object{"kid": "e"}, good().with("pad", strings.Repeat("a", 5800)))
	if got := outcome(a.Authenticate(present(long), now)); got != me || len(long) < 8000 {
		t.Errorf("one of %d bytes: %s", len(long), got)
	}
}

// TestPrincipalAndAgentsClaims: other claims may name the caller and what it may call; no list is nothing, never all.
func TestPrincipalAndAgentsClaims(t *testing.T) {
	t.Parallel()
	c := everyAlgorithm(jwks(jwk("e", ecOne())))
	c.PrincipalClaim, c.AgentsClaim = "client_id", "https://dragoman/agents"
	a := newTest(t, Config{Tokens: newTokens(t, c)})
	who := func(claims object) (*Principal, error) {
		return a.Authenticate(present(sign(ecOne(), object{"kid": "e"}, claims)), now)
	}
	f := func(list any, want ...string) {
		t.Helper()
		p, err := who(good().with("client_id", "billing", "https://dragoman/agents", list))
		if err != nil || p.Name != issuer+"|billing" || p.Agents == nil || !slices.Equal(p.Agents, want) {
			t.Errorf("%v: %+v, %v, want %q", list, p, err, want)
		}
		if p != nil && p.May("nobody's") {
			t.Errorf("%v may call everything", list)
		}
	}
	f(nil)
	f(json.RawMessage("null"))
	f("")
	f("  ")
	f([]string{})
	f("support", "support")
	f(" support  research-* ", "support", "research-*")
	f([]string{"support", "research-*"}, "support", "research-*")
	f([]string{"two words"}, "two words")
	for _, bad := range []any{1, true, object{"support": true}, []any{"support", 1}, []any{"support", nil}, []any{[]string{"support"}}} {
		if got := outcome(who(good().with("client_id", "billing", "https://dragoman/agents", bad))); got != tokenAgents {
			t.Errorf("%v: %s", bad, got)
		}
	}
	for _, bad := range []any{nil, 1, []string{"billing"}, object{}, json.RawMessage("null"), "", "a\tb"} {
		if got := outcome(who(good().with("client_id", bad))); got != tokenPrincipal {
			t.Errorf("%v names %s", bad, got)
		}
	}
	p, err := who(good().with("client_id", "billing", "https://dragoman/agents", "support research-*"))
	if err != nil || !p.May("support") || !p.May("research-web") || p.May("billing") {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestKeysAndTokensTogether: a bearer may be either, and where authorization is forwarded, tokens alone.
func TestKeysAndTokensTogether(t *testing.T) {
	t.Parallel()
	v := newTokens(t, everyAlgorithm(jwks(jwk("e", ecOne()))))
	token, wrong := sign(ecOne(), object{"kid": "e"}, good()), sign(ecTwo(), object{"kid": "e"}, good())
	dotted := key("dotted", "a.key.with.two-dots-no.three")
	shaped := key("shaped", "a-key.with-just.two-dots")
	keys := append(testKeys(), dotted, shaped)
	f := func(a *Authenticator, authorization, apiKey, want string) {
		t.Helper()
		if got := outcome(a.Authenticate(Presented{header(authorization), header(apiKey)}, now)); got != want {
			t.Errorf("%.30q, %.30q: %s, want %s", authorization, apiKey, got, want)
		}
	}
	const missing, malformed, notToken = "rejected: no credential", "rejected: malformed credential", "rejected: neither a token nor a key that may be here"
	a := newTest(t, Config{Keys: keys, Tokens: v})
	f(a, "Bearer "+token, "-", me)
	f(a, "bearer "+token, "-", me)
	f(a, "Bearer "+liveKey, "-", "front")
	f(a, "-", liveKey, "front")
	f(a, "Bearer a.key.with.two-dots-no.three", "-", "dotted")
	f(a, "Bearer a-key.with-just.two-dots", "-", "shaped")
	f(a, "Bearer "+expiredKey, "-", "rejected: expired key")
	f(a, "Bearer "+wrong, "-", tokenSignature)
	f(a, "Bearer "+token, liveKey, "conflict")
	f(a, "-", "-", missing)

	a = newTest(t, Config{Keys: keys, Tokens: v, Forwards: true})
	f(a, "Bearer "+token, "-", me)
	f(a, "Bearer "+wrong, "-", tokenSignature)
	f(a, "Bearer "+liveKey, "-", notToken) // a key does not go on to a backend
	f(a, "Bearer a-key.with-just.two-dots", "-", tokenMalformed)
	f(a, "Basic YTpi", "-", malformed)
	f(a, "", "-", malformed)
	f(a, "-", "-", missing)
	f(a, "-", liveKey, "front")
	f(a, "Bearer "+token, liveKey, "front") // the key decides, and what is in authorization is the backend's
	f(a, "Bearer "+wrong, liveKey, "front")
	f(a, "Basic YTpi", liveKey, "front")
	f(a, "Bearer "+token, unknownKey, "rejected: unknown key") // a bad one is not passed over
	f(a, "Bearer "+token, "", malformed)

	a = newTest(t, Config{Keys: keys}) // no tokens: they are keys that nobody knows
	f(a, "Bearer "+token, "-", "rejected: unknown key")
}

// TestNoErrorRepeatsTheToken, nor any part of it, and every one is a rejection.
func TestNoErrorRepeatsTheToken(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	const canary = "canary5f3a"
	for _, header := range []object{{}, {"kid": "e"}, {"kid": canary}, {"typ": canary}, {"crit": canary}, {"alg": canary}, {"kid": []string{canary}}, {"jwk": canary}, {"x5c": []string{canary}}} {
		for _, claims := range []object{{}, good().with("iss", canary), good().with("aud", canary), good().with("sub", canary+"\x00"), good().with("exp", canary), good().with("aud", object{canary: 1})} {
			for _, signer := range []any{ecOne(), ecTwo()} {
				token := sign(signer, header, claims)
				_, err := a.Authenticate(present(token), now)
				if !errors.Is(err, ErrRejected) || Reason(err) == "" {
					t.Fatalf("%s, %s: %v", header.json(), claims.json(), err)
				}
				if s := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(s, canary) || strings.Contains(s, token[:10]) {
					t.Errorf("%s repeats the token", s)
				}
			}
		}
	}
}

// FuzzToken: whatever is let in was signed by the issuer, byte for byte of what is signed.
func FuzzToken(f *testing.F) {
	v, err := NewVerifier(everyAlgorithm(jwks(jwk("r", rsaOne()), jwk("e", ecOne()), jwk("d", ed()), jwk("k", hmacOnly))))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(v.Close)
	a, err := New(Config{Tokens: v})
	if err != nil {
		f.Fatal(err)
	}
	signed := map[string]bool{}
	for _, token := range []string{
		sign(rsaOne(), object{"kid": "r"}, good()), sign(ecOne(), object{"kid": "e"}, good()), sign(ed(), object{}, good()),
	} {
		signed[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add([]byte(token))
	}
	f.Add([]byte(sign(ecTwo(), object{"jwk": jwk("e", ecTwo())}, good())))
	f.Add([]byte(sign(hmacOnly, object{"kid": "k"}, good())))
	f.Add([]byte(sign(hmacOnly, object{"kid": "k", "alg": "none"}, good())))
	f.Add([]byte("e30.e30.AA"))
	f.Fuzz(func(t *testing.T, token []byte) {
		p, err := a.Authenticate(Presented{Authorization: append([]byte("Bearer "), token...)}, now)
		if err != nil {
			if p != nil || Reason(err) == "" {
				t.Errorf("%v, %v", p, err)
			}
			return
		}
		if dot := bytes.LastIndexByte(token, '.'); dot < 0 || !sameInput(signed, string(token[:dot])) {
			t.Errorf("%q was let in as %q", token, p.Name)
		}
	})
}

// sameInput reports whether the issuer signed this: base64 has several spellings of some bytes.
func sameInput(signed map[string]bool, input string) bool {
	decode := func(s string) string {
		header, claims, _ := strings.Cut(s, ".")
		h, err := base64.RawURLEncoding.DecodeString(header)
		if err != nil {
			return "?"
		}
		c, err := base64.RawURLEncoding.DecodeString(claims)
		if err != nil {
			return "?"
		}
		return string(h) + "." + string(c)
	}
	for s := range signed {
		if decode(s) == decode(input) {
			return true
		}
	}
	return false
}
