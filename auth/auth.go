package auth

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"
)

// Presented is what a request says about who sent it. The slices are the caller's; nothing of them is kept.
type Presented struct {
	// Authorization and APIKey are the values of the headers authorization and x-api-key. nil: the header is absent. One
	// that is there without a value is malformed, not absent. Repeated headers must have been refused before.
	Authorization, APIKey []byte
}

// Config is who may call.
type Config struct {
	// Open lets everybody in as [Anonymous], whatever they present.
	Open bool

	// Keys are the keys that callers may present. [Authenticator.SetKeys] replaces them.
	Keys []Key

	// Tokens verifies JSON Web Tokens. nil: there are none. Whoever made it closes it.
	Tokens *Verifier

	// Forwards says that authorization goes on to a backend that checks its users itself. Then it never holds one of
	// Keys, and never conflicts: x-api-key alone authenticates keys, and where there is none, authorization is a token for
	// Tokens.
	Forwards bool
}

// Authenticator decides who is calling. It may be used by many goroutines at once.
type Authenticator struct {
	open, forwards bool
	tokens         *Verifier
	keys           atomic.Pointer[keyring]
}

// New makes an [Authenticator]. It fails closed: with neither a key nor a verifier, and without Open, there is an error,
// as there is for a key without name or hash, and for one key of two names.
func New(c Config) (*Authenticator, error) {
	a := &Authenticator{open: c.Open, forwards: c.Forwards, tokens: c.Tokens}
	if err := a.SetKeys(c.Keys); err != nil {
		return nil, err
	}
	return a, nil
}

// SetKeys replaces the keys at once: every decision is made with the old ones or with the new ones. With an error the old
// ones stay. It fails where [New] would.
func (a *Authenticator) SetKeys(keys []Key) error {
	if len(keys) == 0 && a.tokens == nil && !a.open {
		return errors.New("there is no key and no token issuer, so nobody could call")
	}
	k, err := newKeyring(keys)
	if err != nil {
		return err
	}
	a.keys.Store(k)
	return nil
}

// noCredential is hashed where there is nothing to hash.
var noCredential = make([]byte, len(keyPrefix)+keyDigits)

// Authenticate says who is calling. The error is one of
//
//   - [ErrRejected]: nothing, or nothing that is valid now, was presented (see [Reason]);
//   - [ErrConflict]: both headers are present and do not hold the same credential;
//   - [ErrUnavailable]: a token was presented, and the issuer's public keys have never been loaded.
//
// A header that is present decides: a bad one is never passed over for a good one. Keys, and tokens that were seen before,
// cost no allocation. A token may wait for a public key that is not known yet, for two seconds at most.
func (a *Authenticator) Authenticate(p Presented, now time.Time) (*Principal, error) {
	if a.open {
		return Anonymous, nil
	}
	if a.forwards {
		return a.forwarding(p, now)
	}
	switch {
	case p.Authorization != nil:
		credential, ok := bearer(p.Authorization)
		if p.APIKey != nil && (credential == nil || !bytes.Equal(credential, p.APIKey)) {
			return nil, ErrConflict
		}
		if !ok {
			if credential == nil {
				credential = p.Authorization
			}
			return a.key(credential, errMalformed, now, false)
		}
		return a.key(credential, nil, now, true)
	case p.APIKey != nil:
		return a.apiKey(p.APIKey, now)
	}
	return a.key(noCredential, errMissing, now, false)
}

// forwarding is [Authenticator.Authenticate] where authorization is the backend's affair.
func (a *Authenticator) forwarding(p Presented, now time.Time) (*Principal, error) {
	switch {
	case p.APIKey != nil:
		return a.apiKey(p.APIKey, now)
	case a.tokens == nil || p.Authorization == nil:
		return a.key(noCredential, errMissing, now, false)
	}
	credential, ok := bearer(p.Authorization)
	if !ok {
		return a.key(p.Authorization, errMalformed, now, false)
	}
	return a.key(credential, errNotToken, now, true)
}

func (a *Authenticator) apiKey(value []byte, now time.Time) (*Principal, error) {
	if !isAPIKey(value) {
		return a.key(value, errMalformed, now, false)
	}
	return a.key(value, nil, now, false)
}

// key decides about a key, and about a token where there may be one. fault is why it cannot be a key.
func (a *Authenticator) key(credential []byte, fault *rejection, now time.Time, token bool) (*Principal, error) {
	if fault == nil && len(credential) < minCredential {
		fault = errMalformed
	}
	p, hash, refused := a.keys.Load().find(credential, fault, now)
	switch {
	case refused == nil:
		return p, nil
	case token && a.tokens != nil && (refused == errUnknown || refused == errNotToken) && isToken(credential):
		return a.tokens.verify(credential, hash, now)
	}
	return nil, refused
}
