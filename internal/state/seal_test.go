package state

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestSealedValuesAreNotToBeRead by whoever has the store and not the key, and keys can change.
func TestSealedValuesAreNotToBeRead(t *testing.T) {
	t.Parallel()
	old, next := bytes.Repeat([]byte{1}, KeySize), bytes.Repeat([]byte{2}, KeySize)
	under := NewMemory(Limits{})
	sealWith := func(keys ...[]byte) Store {
		s, err := Seal(under, keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := sealWith(old)
	save(t, before, "ann", Change{Put: []Entry{put("c", Turn, "1", "the secret"), put("c", Object, "1", "the secret"), put("d", Turn, "1", "the secret")}})
	if got := turns(t, under, "ann", "c"); strings.Contains(got, "secret") {
		t.Errorf("got %s", got)
	}
	if turns(t, under, "ann", "c") == turns(t, under, "ann", "d") {
		t.Error("the same twice can be told")
	}
	if got := turns(t, sealWith(next, old), "ann", "c"); got != "1=the secret" {
		t.Errorf("got %s", got)
	}
	save(t, sealWith(next, old), "ann", Change{Put: []Entry{put("c", Turn, "2", "another")}})
	unreadable := func(s Store, r Read) {
		t.Helper()
		f, err := s.Read(background, "ann", r)
		if !errors.Is(err, ErrSealed) || len(f.Turns) != len(r.Convs) || len(f.Values) != len(r.Refs) {
			t.Errorf("got %q, %v", f, err)
		}
	}
	unreadable(before, Read{Convs: []string{"c"}})
	unreadable(sealWith(next), Read{Convs: []string{"c"}})
	unreadable(sealWith(next), Read{Refs: []Ref{{"c", Object, "1"}}})
	// Neither moved, nor changed, nor cut short, nor in clear.
	f, err := under.Read(background, "ann", Read{Refs: []Ref{{"c", Turn, "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	good := f.Values[0]
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		save(t, under, "ann", Change{Put: []Entry{{Ref{"e", Turn, "1"}, bad}}})
		unreadable(before, Read{Convs: []string{"e"}})
		save(t, under, "ann", Change{Put: []Entry{{Ref{"e", Turn, "1"}, good[:i]}}})
		unreadable(before, Read{Convs: []string{"e"}})
	}
	for _, r := range []Ref{{"e", Turn, "1"}, {"c", Turn, "9"}, {"c", Object, "9"}} {
		save(t, under, "ann", Change{Put: []Entry{{r, good}}})
		unreadable(before, Read{Refs: []Ref{r}})
	}
	save(t, under, "bob", Change{Put: []Entry{{Ref{"c", Turn, "1"}, good}}})
	if _, err := before.Read(background, "bob", Read{Convs: []string{"c"}}); !errors.Is(err, ErrSealed) {
		t.Errorf("got %v", err)
	}
	for _, keys := range [][][]byte{nil, {old[:31]}, {old, nil}} {
		if _, err := Seal(under, keys); err == nil {
			t.Errorf("%v was taken", keys)
		}
	}
}
