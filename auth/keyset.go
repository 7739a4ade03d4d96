package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	// maxKeys bounds what a token that names no key is tried with.
	maxKeys = 64

	// minModulus is what RFC 7518 demands of RSA keys, in bits.
	minModulus = 2048
)

// keySet are the public keys of the issuer, and the tokens that they have verified. Only its table of tokens changes.
type keySet struct {
	digest [32]byte // of the document
	keys   []publicKey
	seen   *seenTokens
}

// publicKey is a key and the algorithms that it may be used with: those that are allowed, fit its type, and are its own if
// it names one.
type publicKey struct {
	id         string
	key        any
	algorithms []jose.SignatureAlgorithm
}

// parseKeySet reads a JWK set. Keys that cannot verify a token are left out, as RFC 7517 wants it: symmetric, private and
// unknown ones, those for encryption, and those of algorithms that are not allowed. A set without any other is an error.
func parseKeySet(data []byte, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, errors.New("the key set is not a JSON object with keys")
	}
	s := &keySet{digest: sha256.Sum256(data), seen: new(seenTokens)}
	var left error
	for i, raw := range doc.Keys {
		key, err := parseKey(raw, allowed)
		if err != nil {
			if left == nil {
				left = fmt.Errorf("key %d %w", i+1, err)
			}
			continue
		}
		s.keys = append(s.keys, key)
	}
	switch {
	case len(doc.Keys) == 0:
		return nil, errors.New("the key set holds no keys")
	case len(s.keys) == 0:
		return nil, fmt.Errorf("the key set holds no key that can verify a token: %w", left)
	case len(s.keys) > maxKeys:
		return nil, fmt.Errorf("the key set holds more than %d keys", maxKeys)
	}
	return s, nil
}

// parseKey reads a public key. Its errors do not quote it: somebody may have put a private one there.
func parseKey(raw json.RawMessage, allowed []jose.SignatureAlgorithm) (publicKey, error) {
	var members map[string]*json.RawMessage // pointers: only those are written again as they were read
	if json.Unmarshal(raw, &members) != nil {
		return publicKey{}, errors.New("is not an object")
	}
	// Certificates say nothing that counts here, and keys with one that Go does not like are still good.
	for name := range members {
		switch name {
		case "x5c", "x5u", "x5t", "x5t#S256":
			delete(members, name)
		}
	}
	var about struct {
		Kty string          `json:"kty"`
		Alg string          `json:"alg"`
		Use string          `json:"use"`
		Ops []string        `json:"key_ops"`
		D   json.RawMessage `json:"d"`
		K   json.RawMessage `json:"k"`
	}
	plain, err := json.Marshal(members)
	if err != nil || json.Unmarshal(plain, &about) != nil {
		return publicKey{}, errors.New("cannot be read")
	}
	switch {
	case about.Kty == "oct" || about.K != nil:
		return publicKey{}, errors.New("is symmetric, and so no public key")
	case about.D != nil:
		return publicKey{}, errors.New("is a private key, which has to be kept secret")
	case about.Use != "" && about.Use != "sig":
		return publicKey{}, errors.New("is not for signatures")
	case about.Ops != nil && !slices.Contains(about.Ops, "verify"):
		return publicKey{}, errors.New("is not for verifying")
	}
	var key jose.JSONWebKey
	if json.Unmarshal(plain, &key) != nil {
		return publicKey{}, errors.New("cannot be read, or is of a type that is not known")
	}
	p := publicKey{id: key.KeyID, key: key.Key}
	for _, alg := range allowed {
		if fits(alg, key.Key) && (about.Alg == "" || about.Alg == string(alg)) {
			p.algorithms = append(p.algorithms, alg)
		}
	}
	if p.algorithms == nil {
		return publicKey{}, errors.New("is too weak, or fits none of the algorithms that are allowed")
	}
	return p, nil
}

// fits reports whether an algorithm may be used with a key of that type.
func fits(alg jose.SignatureAlgorithm, key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch alg {
		case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
			return k.N.BitLen() >= minModulus && k.E > 2
		}
	case *ecdsa.PublicKey:
		switch alg {
		case jose.ES256:
			return k.Curve == elliptic.P256()
		case jose.ES384:
			return k.Curve == elliptic.P384()
		case jose.ES512:
			return k.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// verify tries the keys that a token may have been signed with: those of the id that it names, all that fit if it names
// none. payload is nil if none of them has signed it. known says that a newer set would not change that: the key that it
// names is here.
func (s *keySet) verify(signed *jose.JSONWebSignature, h *jose.Header) (payload []byte, known bool) {
	for i := range s.keys {
		k := &s.keys[i]
		if h.KeyID != "" {
			if k.id != h.KeyID {
				continue
			}
			known = true
		}
		if !slices.Contains(k.algorithms, jose.SignatureAlgorithm(h.Algorithm)) {
			continue
		}
		if payload, err := signed.Verify(k.key); err == nil {
			return payload, true
		}
	}
	return nil, known
}
