package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

// The issuer of these tests signs by hand, with the standard library alone: what judges tokens must not have made them.

const (
	issuer   = "https://issuer.test"
	audience = "dragoman"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	rsaOne   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsaWeak  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ecOne    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ecTwo    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ecThree  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ecP384   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	ecP521   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	ed       = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) })
	hmacOnly = []byte("a secret of 32 bytes or more, for HS256")
)

// object is a JSON object.
type object map[string]any

// with is a copy with other members; nil takes one away.
func (o object) with(members ...any) object {
	c := maps.Clone(o)
	for i := 0; i < len(members); i += 2 {
		if members[i+1] == nil {
			delete(c, members[i].(string))
		} else {
			c[members[i].(string)] = members[i+1]
		}
	}
	return c
}

func (o object) json() []byte { return must(json.Marshal(o)) }

// jwk is the public key of a signer, as an issuer publishes it.
func jwk(kid string, key any, members ...any) object {
	o := object{"kid": kid, "use": "sig"}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		o["kty"], o["n"], o["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PrivateKey:
		point := must(k.PublicKey.Bytes())
		size := len(point) / 2
		o["kty"], o["crv"], o["x"], o["y"] = "EC", k.Curve.Params().Name, b64(point[1:1+size]), b64(point[1+size:])
	case ed25519.PrivateKey:
		o["kty"], o["crv"], o["x"] = "OKP", "Ed25519", b64(k[32:])
	case []byte:
		o["kty"], o["k"] = "oct", b64(k)
	}
	if kid == "" {
		delete(o, "kid")
	}
	return o.with(members...)
}

func jwks(keys ...object) []byte { return must(json.Marshal(object{"keys": keys})) }

// good are claims that are accepted.
func good() object {
	return object{"iss": issuer, "aud": audience, "sub": "me", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix()}
}

// sign makes a token. Without an alg in the header the key's usual one is used and named.
func sign(key any, header, claims object) string {
	if _, ok := header["alg"]; !ok {
		header = header.with("alg", usual(key))
	}
	return signRaw(key, header["alg"].(string), header.json(), claims.json())
}

func usual(key any) string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return "RS256"
	case *ecdsa.PrivateKey:
		return map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Curve.Params().Name]
	case ed25519.PrivateKey:
		return "EdDSA"
	}
	return "HS256"
}

// signRaw signs as alg says, or as the key usually does if it says something that the key cannot do.
func signRaw(key any, alg string, header, claims []byte) string {
	input := b64(header) + "." + b64(claims)
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[max(0, len(alg)-3):]]
	if hash == 0 {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write([]byte(input))
	sum := h.Sum(nil)
	var signature []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			signature = must(rsa.SignPSS(rand.Reader, k, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		} else {
			signature = must(rsa.SignPKCS1v15(nil, k, hash, sum))
		}
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum)
		if err != nil {
			panic(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		signature = make([]byte, 2*size)
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(k, []byte(input))
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(input))
		signature = m.Sum(nil)
	}
	return input + "." + b64(signature)
}

// everyAlgorithm is the configuration of most tests.
func everyAlgorithm(set []byte) TokenConfig {
	return TokenConfig{
		Issuer: issuer, Audience: []string{"other", audience}, JWKS: set, Leeway: 30 * time.Second,
		Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
	}
}

func newTokens(t testing.TB, c TokenConfig) *Verifier {
	t.Helper()
	v, err := NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// tokens is an authenticator for tokens alone, with these keys.
func tokens(t testing.TB, keys ...object) *Authenticator {
	t.Helper()
	return newTest(t, Config{Tokens: newTokens(t, everyAlgorithm(jwks(keys...)))})
}

func present(token string) Presented { return Presented{Authorization: []byte("Bearer " + token)} }
