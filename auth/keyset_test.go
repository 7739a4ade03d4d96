package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestKeySets is the table of what an issuer may publish.
func TestKeySets(t *testing.T) {
	t.Parallel()
	f := func(what string, set []byte, key any, header object, want string) {
		t.Helper()
		v, err := NewVerifier(everyAlgorithm(set))
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.HasPrefix(want, "rejected") || want == me {
				t.Errorf("%s: %v, want %s", what, err, want)
			}
			return
		}
		defer v.Close()
		a := newTest(t, Config{Tokens: v})
		if got := outcome(a.Authenticate(present(sign(key, header, good())), now)); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	e, r := jwk("e", ecOne()), jwk("r", rsaOne())

	f("several keys of one id", jwks(jwk("e", ecTwo()), jwk("e", rsaOne()), e), ecOne(), object{"kid": "e"}, me)
	f("several keys of one id, another", jwks(jwk("e", ecTwo()), jwk("e", rsaOne()), e), rsaOne(), object{"kid": "e"}, me)
	f("several keys of one id, none", jwks(jwk("e", ecTwo()), jwk("e", rsaOne())), ecOne(), object{"kid": "e"}, tokenSignature)
	f("no id in the token", jwks(jwk("a", ecTwo()), r, e), ecOne(), object{}, me)
	f("no id in the set", jwks(jwk("", ecOne())), ecOne(), object{}, me)
	f("no id in the set, but in the token", jwks(jwk("", ecOne())), ecOne(), object{"kid": "e"}, tokenKey)
	f("no use", jwks(e.with("use", nil)), ecOne(), object{"kid": "e"}, me)
	f("its own algorithm", jwks(r.with("alg", "RS256")), rsaOne(), object{"kid": "r"}, me)
	f("another than its own algorithm", jwks(r.with("alg", "RS256")), rsaOne(), object{"kid": "r", "alg": "RS512"}, tokenSignature)
	f("another than its own padding", jwks(r.with("alg", "PS256")), rsaOne(), object{"kid": "r"}, tokenSignature)
	f("for verifying", jwks(e.with("key_ops", []string{"verify"}, "use", nil)), ecOne(), object{"kid": "e"}, me)
	f("with a chain that nobody can read", jwks(e.with("x5c", []string{"%%%"}, "x5t", "%", "x5t#S256", "?", "x5u", "\x7f:")), ecOne(), object{"kid": "e"}, me)
	f("with members that nobody knows", jwks(e.with("exp", 1, "revoked", object{})), ecOne(), object{"kid": "e"}, me)

	// What must not verify anything, beside a key that may.
	other := jwk("other", ecTwo())
	f("symmetric", jwks(other, jwk("k", hmacOnly)), hmacOnly, object{"kid": "k"}, tokenAlgorithm)
	f("symmetric, with an honest name", jwks(other, jwk("k", hmacOnly)), hmacOnly, object{"kid": "k", "alg": "RS256"}, tokenKey)
	f("symmetric and public at once", jwks(other, e.with("k", b64(hmacOnly))), ecOne(), object{"kid": "e"}, tokenKey)
	f("for encryption", jwks(other, e.with("use", "enc")), ecOne(), object{"kid": "e"}, tokenKey)
	f("for signing only", jwks(other, e.with("key_ops", []string{"sign"})), ecOne(), object{"kid": "e"}, tokenKey)
	f("for nothing", jwks(other, e.with("key_ops", []string{})), ecOne(), object{"kid": "e"}, tokenKey)
	f("of an algorithm that it cannot do", jwks(other, e.with("alg", "RS256")), ecOne(), object{"kid": "e"}, tokenKey)
	f("of a symmetric algorithm", jwks(other, r.with("alg", "HS256")), rsaOne(), object{"kid": "r"}, tokenKey)
	f("weak", jwks(other, jwk("w", rsaWeak())), rsaWeak(), object{"kid": "w"}, tokenKey)
	f("with an exponent of one", jwks(other, r.with("e", "AQ")), rsaOne(), object{"kid": "r"}, tokenKey)
	f("with an exponent of two", jwks(other, r.with("e", "Ag")), rsaOne(), object{"kid": "r"}, tokenKey)
	f("far too large", jwks(other, r.with("n", b64([]byte(strings.Repeat("\xff", 4096))))), rsaOne(), object{"kid": "r"}, tokenKey)
	f("private", jwks(other, e.with("d", "AAAA")), ecOne(), object{"kid": "e"}, tokenKey)
	f("not on its curve", jwks(other, e.with("y", jwk("", ecTwo())["y"])), ecOne(), object{"kid": "e"}, tokenKey)
	f("of another curve than it says", jwks(other, e.with("crv", "P-384")), ecOne(), object{"kid": "e"}, tokenKey)
	f("of a curve that nobody knows", jwks(other, e.with("crv", "secp256k1")), ecOne(), object{"kid": "e"}, tokenKey)
	f("without a type", jwks(other, e.with("kty", nil)), ecOne(), object{"kid": "e"}, tokenKey)
	f("of another type", jwks(other, e.with("kty", "RSA")), ecOne(), object{"kid": "e"}, tokenKey)
	f("with an id that is no text", jwks(other, e.with("kid", 1)), ecOne(), object{"kid": "e"}, tokenKey)

	// Sets that are refused as a whole.
	f("empty", jwks(), nil, nil, "the key set holds no keys")
	f("null", []byte("null"), nil, nil, "the key set holds no keys")
	f("of another name", []byte(`{"Keys":[`+string(e.json())+`]}`), nil, nil, "the key set holds no keys")
	f("a list", []byte("["+string(e.json())+"]"), nil, nil, "is not a JSON object")
	f("a key", e.json(), nil, nil, "the key set holds no keys")
	f("cut", jwks(e)[:50], nil, nil, "is not a JSON object")
	f("a page", []byte("<html>"), nil, nil, "is not a JSON object")
	f("keys of no kind", []byte(`{"keys":[1,null,"x",[]]}`), nil, nil, "key 1 is not an object")
	f("symmetric only", jwks(jwk("k", hmacOnly)), nil, nil, "key 1 is symmetric")
	f("private only", jwks(e.with("d", "AAAA")), nil, nil, "key 1 is a private key")
	var many []object
	for i := range maxKeys + 1 {
		many = append(many, jwk(fmt.Sprint(i), ecOne()))
	}
	f("as many as may be", jwks(many[:maxKeys]...), ecOne(), object{"kid": "63"}, me)
	f("too many", jwks(many...), nil, nil, "more than 64 keys")
}

// TestAnAlgorithmFitsOneTypeOfKey: the library refuses a wrong one too, and this does not rely on it.
func TestAnAlgorithmFitsOneTypeOfKey(t *testing.T) {
	t.Parallel()
	want := map[jose.SignatureAlgorithm]string{
		jose.RS256: "rsa", jose.RS384: "rsa", jose.RS512: "rsa", jose.PS256: "rsa", jose.PS384: "rsa", jose.PS512: "rsa",
		jose.ES256: "P-256", jose.ES384: "P-384", jose.ES512: "P-521", jose.EdDSA: "ed",
	}
	for _, alg := range append(slices.Clone(algorithms), jose.HS256, jose.HS384, jose.HS512, "none", "") {
		for name, key := range map[string]any{
			"rsa": &rsaOne().PublicKey, "P-256": &ecOne().PublicKey, "P-384": &ecP384().PublicKey, "P-521": &ecP521().PublicKey,
			"ed": ed().Public(), "weak": &rsaWeak().PublicKey, "secret": hmacOnly, "nothing": nil,
		} {
			if got := fits(alg, key); got != (want[alg] == name) {
				t.Errorf("%s with %s: %v", alg, name, got)
			}
		}
	}
}

// TestNoErrorRepeatsAKey: somebody may have put a secret one where public ones belong.
func TestNoErrorRepeatsAKey(t *testing.T) {
	t.Parallel()
	const canary = "canary5f3a"
	for _, set := range [][]byte{
		[]byte(canary), []byte(`{"keys":"` + canary + `"}`), []byte(`{"keys":["` + canary + `"]}`), jwks(jwk("e", ecOne(), "d", canary)),
		jwks(jwk(canary, []byte(canary))), jwks(object{"kty": canary}), jwks(jwk("e", ecOne(), "x", canary)), jwks(jwk("e", ecOne(), "use", 1, "d", canary)),
	} {
		_, err := NewVerifier(everyAlgorithm(set))
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestNewVerifierFailsClosed: it says everything that is wrong, and takes nothing that would let strangers in.
func TestNewVerifierFailsClosed(t *testing.T) {
	t.Parallel()
	f := func(change func(*TokenConfig), want ...string) {
		t.Helper()
		c := everyAlgorithm(jwks(jwk("e", ecOne())))
		change(&c)
		v, err := NewVerifier(c)
		if len(want) == 0 {
			if err != nil {
				t.Error(err)
				return
			}
			v.Close()
			v.Close() // as often as one likes
			return
		}
		if err == nil {
			v.Close()
			t.Errorf("%q was taken", want)
			return
		}
		for _, w := range want {
			if v != nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want %q", err, w)
			}
		}
	}
	f(func(*TokenConfig) {})
	f(func(c *TokenConfig) { c.Issuer = "" }, "an issuer is required")
	f(func(c *TokenConfig) { c.Issuer = "a\nb" }, "does not print")
	f(func(c *TokenConfig) { c.Audience = nil }, "an audience is required")
	f(func(c *TokenConfig) { c.Audience = []string{} }, "an audience is required")
	f(func(c *TokenConfig) { c.Audience = []string{"a", ""} }, "an audience is required")
	f(func(c *TokenConfig) { c.JWKS = nil }, "exactly one of")
	f(func(c *TokenConfig) { c.JWKSURL = "https://issuer.test" }, "exactly one of")
	f(func(c *TokenConfig) { c.JWKSFile = "/keys" }, "exactly one of")
	f(func(c *TokenConfig) { c.JWKS = []byte{} }, "is not a JSON object")
	f(func(c *TokenConfig) { c.Leeway = -1 }, "the leeway is not within")
	f(func(c *TokenConfig) { c.Leeway = 5*time.Minute + 1 }, "the leeway is not within")
	f(func(c *TokenConfig) { c.Leeway = 5 * time.Minute })
	f(func(c *TokenConfig) { c.Leeway = 0 })
	f(func(c *TokenConfig) { c.Algorithms = []string{} }, "an algorithm is required")
	f(func(c *TokenConfig) { c.Algorithms = nil })
	for _, alg := range []string{"none", "None", "NONE", "", "HS256", "HS384", "HS512", "hs256", "rs256", "ES256K", "RS256 ", "RSA-OAEP", "A128KW", "dir"} {
		f(func(c *TokenConfig) { c.Algorithms = []string{"RS256", alg} }, fmt.Sprintf("the algorithm %q is refused", alg))
	}
	f(func(c *TokenConfig) { *c = TokenConfig{} }, "an issuer is required", "an audience is required", "exactly one of")
	f(func(c *TokenConfig) { c.JWKS, c.JWKSFile = nil, "/does/not/exist" }, "no such file")
	f(func(c *TokenConfig) { c.JWKS, c.JWKSFile = nil, t.TempDir() }, "not in a regular file")
	f(func(c *TokenConfig) { c.JWKS, c.JWKSFile = nil, "/dev/zero" }, "not in a regular file")
	for address, want := range map[string]string{
		"http://issuer.test/jwks": "must be https", "http://10.0.0.1/": "must be https", "http://[2001:db8::1]/": "must be https", "http://127.0.0.1.issuer.test/": "must be https",
		"http://localhost.issuer.test/": "must be https", "http://0.0.0.0/": "must be https", "http://localhost@issuer.test/": "holds a user",
		"https://user:secret@issuer.test/": "holds a user", "issuer.test/jwks": "does not begin with https", "ftp://issuer.test/": "does not begin with https",
		"file:///etc/passwd": "does not begin with https", "https:///jwks": "does not begin with https", "https://%zz/": "cannot be read", "//issuer.test/": "does not begin with https",
	} {
		f(func(c *TokenConfig) { c.JWKS, c.JWKSURL = nil, address }, want)
	}
}
