package state

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length of a key of [Seal], in bytes.
const KeySize = 32

// ErrSealed says that a value is not to be read with the keys there are, or was changed.
var ErrSealed = errors.New("what is kept cannot be decrypted: it was encrypted with another key, or was changed")

// sealed encrypts what another store keeps.
type sealed struct {
	Store
	keys []sealKey // the first encrypts
}

type sealKey struct {
	id     [4]byte // which of the keys a value was encrypted with
	secret []byte
}

// Seal has a store keep values encrypted, with AES-256-GCM under a key for each conversation that is derived of the first of keys; all of
// them decrypt, so that keys can change. A value that was moved to another place is not decrypted. Only values are
// encrypted: sizes, and the names of conversations and entries, which are random or hashed, can be seen. Values that were
// kept before without encryption are not read any more.
func Seal(s Store, keys [][]byte) (Store, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
	}
	c := &sealed{Store: s}
	for _, k := range keys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("a key has %d bytes, not %d", len(k), KeySize)
		}
		sum := sha256.Sum256(append([]byte("dragoman state key id\x00"), k...))
		key := sealKey{secret: bytes.Clone(k)}
		copy(key.id[:], sum[:])
		c.keys = append(c.keys, key)
	}
	return c, nil
}

// gcm is the cipher of a conversation.
func (k *sealKey) gcm(owner, conv string) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, k.secret, nil, "dragoman state\x00"+owner+"\x00"+conv, KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// place is what binds a value to where it is kept.
func place(r Ref) []byte { return []byte(string(rune(r.Kind)) + r.Name) }

func (s *sealed) seal(owner string, e Entry) (Entry, error) {
	k := &s.keys[0]
	aead, err := k.gcm(owner, e.Conv)
	if err != nil {
		return e, err
	}
	out := make([]byte, 0, len(k.id)+len(e.Value)+aead.Overhead())
	out = append(out, k.id[:]...)
	e.Value = aead.Seal(out, nil, e.Value, place(e.Ref)) // #nosec G407 -- the cipher makes a random nonce itself
	return e, nil
}

func (s *sealed) open(owner string, r Ref, value []byte) ([]byte, error) {
	for i := range s.keys {
		k := &s.keys[i]
		if len(value) < len(k.id) || !bytes.Equal(value[:len(k.id)], k.id[:]) {
			continue
		}
		aead, err := k.gcm(owner, r.Conv)
		if err != nil {
			return nil, err
		}
		out, err := aead.Open([]byte{}, nil, value[len(k.id):], place(r))
		if err != nil {
			return nil, ErrSealed
		}
		return out, nil
	}
	return nil, ErrSealed
}

// Read implements [Store].
func (s *sealed) Read(ctx context.Context, owner string, r Read) (Found, error) {
	f, err := s.Store.Read(ctx, owner, r)
	if err != nil {
		return f, err
	}
	for _, turns := range f.Turns {
		for i := range turns {
			if turns[i].Value, err = s.open(owner, turns[i].Ref, turns[i].Value); err != nil {
				return Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}, err
			}
		}
	}
	for i, v := range f.Values {
		if v == nil {
			continue
		}
		if f.Values[i], err = s.open(owner, r.Refs[i], v); err != nil {
			return Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}, err
		}
	}
	return f, nil
}

// Save implements [Store].
func (s *sealed) Save(ctx context.Context, owner string, c Change) error {
	put := make([]Entry, len(c.Put))
	for i, e := range c.Put {
		var err error
		if put[i], err = s.seal(owner, e); err != nil {
			return err
		}
	}
	c.Put = put
	return s.Store.Save(ctx, owner, c)
}
