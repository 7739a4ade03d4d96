package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Key is a key that callers may present, without the key itself.
type Key struct {
	// Name is who calls. Keys of one name are one caller: that is how a key is replaced without a gap. Required, and
	// without |, which separates issuer and subject of tokens.
	Name string

	// Hash is the SHA-256 of the key, see [HashKey]. Required.
	Hash [32]byte

	// Agents are names and patterns of the agents that the key may call. nil: all; empty, but not nil: none.
	Agents []string

	// Expires is the first moment at which the key is refused. Zero: never.
	Expires time.Time

	// Disabled refuses the key.
	Disabled bool
}

// DemoKey is the key of the shipped configuration. Everybody knows it: see [IsDemo].
const DemoKey = "dragoman-demo-key-for-loopback-only"

var demoHash = sha256.Sum256([]byte(DemoKey))

// IsDemo reports whether a hash is that of [DemoKey], which must not work where other hosts can reach the listener.
func IsDemo(hash [32]byte) bool { return hash == demoHash }

// HashKey is what is kept of a key.
func HashKey(key []byte) [32]byte { return sha256.Sum256(key) }

// keyPrefix lets people and scanners for leaked secrets recognise a key.
const keyPrefix = "dk_"

// keyDigits are 43 digits of base 62: 256 bits.
const keyDigits = 43

// GenerateKey makes a key: dk_ and 43 letters and digits, 256 bits from the system's random source. The error is that
// source's.
func GenerateKey() (key string, err error) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, len(keyPrefix)+keyDigits)
	out = append(out, keyPrefix...)
	var random [64]byte
	for len(out) < cap(out) {
		if _, err := rand.Read(random[:]); err != nil {
			return "", fmt.Errorf("make a key: %w", err)
		}
		for _, b := range random {
			// A remainder of 256 would prefer the first digits.
			if int(b) < 256/len(alphabet)*len(alphabet) && len(out) < cap(out) {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out), nil
}

// never is beyond every time that a key can expire at.
const never = math.MaxInt64

// entry is a key as it is looked up.
type entry struct {
	hash      [32]byte
	principal *Principal
	expires   int64 // Unix time in seconds; never
	nanos     int32 // and nanoseconds of it
	disabled  bool
}

// live reports whether the entry has not expired.
func (e *entry) live(now time.Time) bool {
	s := now.Unix()
	return s < e.expires || s == e.expires && int32(now.Nanosecond()) < e.nanos
}

// keyring is an immutable set of keys.
type keyring struct {
	byHash map[[32]byte]*entry
	decoy  entry // what a key that does not exist is compared with
	work   *work // nil but in tests
}

// work counts what a decision did.
type work struct{ hashed, looked, compared int }

// newKeyring checks keys and makes them ready to be looked up. It keeps nothing of the slices.
func newKeyring(keys []Key) (*keyring, error) {
	k := &keyring{byHash: make(map[[32]byte]*entry, len(keys))}
	k.decoy = entry{principal: &Principal{}, expires: never}
	var problems []error
	first := make(map[[32]byte]*Key, len(keys))
	for i := range keys {
		key := &keys[i]
		if problem := key.check(); problem != "" {
			problems = append(problems, fmt.Errorf("key %d (%q): %s", i+1, key.Name, problem))
			continue
		}
		if other, again := first[key.Hash]; again {
			if !key.equal(other) {
				problems = append(problems, fmt.Errorf("key %d (%q): is the same key as one of %q: give every caller a key of its own", i+1, key.Name, other.Name))
			}
			continue
		}
		first[key.Hash] = key
		e := &entry{hash: key.Hash, expires: never, disabled: key.Disabled}
		e.principal = &Principal{Name: strings.Clone(key.Name), Agents: slices.Clone(key.Agents)}
		if !key.Expires.IsZero() {
			e.expires, e.nanos = key.Expires.Unix(), int32(key.Expires.Nanosecond())
		}
		k.byHash[key.Hash] = e
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return k, nil
}

func (k *Key) check() string {
	switch {
	case k.Name == "":
		return "has no name: write who calls"
	case strings.Contains(k.Name, "|"):
		return "has a | in its name, which stands between the issuer and the subject of a token"
	case k.Hash == [32]byte{}:
		return "has no hash"
	case k.Hash == sha256.Sum256(nil):
		return "is empty"
	}
	return ""
}

func (k *Key) equal(o *Key) bool {
	return k.Name == o.Name && k.Disabled == o.Disabled && k.Expires.Equal(o.Expires) &&
		(k.Agents == nil) == (o.Agents == nil) && slices.Equal(k.Agents, o.Agents)
}

// find looks a presented key up. Whatever becomes of it, it is hashed, looked up and compared once: how long a refusal
// takes depends on what the client sent, never on what is known here. fault is what is already wrong with it, or nil;
// the credential then still is what is hashed.
func (k *keyring) find(credential []byte, fault *rejection, now time.Time) (p *Principal, hash [32]byte, r *rejection) {
	hash = sha256.Sum256(credential[:min(len(credential), maxCredential)])
	e, known := k.byHash[hash]
	if !known {
		e = &k.decoy
	}
	same := subtle.ConstantTimeCompare(e.hash[:], hash[:]) == 1
	live := e.live(now)
	if k.work != nil {
		k.work.hashed++
		k.work.looked++
		k.work.compared++
	}
	switch {
	case fault != nil:
		return nil, hash, fault
	case !known || !same:
		return nil, hash, errUnknown
	case e.disabled:
		return nil, hash, errDisabled
	case !live:
		return nil, hash, errExpired
	}
	return e.principal, hash, nil
}
