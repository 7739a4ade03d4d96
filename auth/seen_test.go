package auth

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"
)

// TestATokenIsRememberedNoLongerThanItIsValid, and never for longer than a few minutes.
func TestATokenIsRememberedNoLongerThanItIsValid(t *testing.T) {
	t.Parallel()
	f := func(exp, remembered time.Duration) {
		t.Helper()
		a := tokens(t, jwk("e", ecOne()))
		token := sign(ecOne(), object{"kid": "e"}, good().with("exp", now.Add(exp).Unix()))
		if got := outcome(a.Authenticate(present(token), now)); got != me {
			t.Fatal(got)
		}
		hash := HashKey([]byte(token))
		seen := a.tokens.keys.set.Load().seen
		if seen.find(&hash, now.Add(remembered-1)) == nil {
			t.Errorf("a token that expires in %v is forgotten before %v", exp, remembered)
		}
		if seen.find(&hash, now.Add(remembered)) != nil {
			t.Errorf("a token that expires in %v is remembered for more than %v", exp, remembered)
		}
	}
	f(time.Minute, time.Minute+30*time.Second) // and the leeway
	f(time.Hour, seenFor)
	f(-20*time.Second, 10*time.Second)

	// Seen from outside: at the end it is refused, however often it was good.
	a := tokens(t, jwk("e", ecOne()))
	token := sign(ecOne(), object{"kid": "e"}, good().with("exp", now.Add(time.Minute).Unix()))
	for _, at := range []time.Duration{0, time.Minute, 90*time.Second - 1, 90 * time.Second, time.Hour} {
		want := me
		if at >= 90*time.Second {
			want = tokenExpired
		}
		if got := outcome(a.Authenticate(present(token), now.Add(at))); got != want {
			t.Errorf("after %v: %s", at, got)
		}
	}
}

// TestTokensAreRememberedByTheirWholeHash: two that share all but one byte of it are two.
func TestTokensAreRememberedByTheirWholeHash(t *testing.T) {
	t.Parallel()
	var seen seenTokens
	one := seenToken{hash: HashKey([]byte("one")), principal: &Principal{Name: "one"}, until: now.Add(time.Minute)}
	seen.add(&one, now)
	for i := range one.hash {
		hash := one.hash
		hash[i] ^= 1
		if p := seen.find(&hash, now); p != nil {
			t.Errorf("byte %d differs: %s", i, p.Name)
		}
	}
	if p := seen.find(&one.hash, now); p != one.principal {
		t.Errorf("%v", p)
	}
}

// TestTheTableOfTokensIsBounded: of a fixed size; a new token takes a free place, its own or an old one's, or the place of
// the one that would be forgotten first.
func TestTheTableOfTokensIsBounded(t *testing.T) {
	t.Parallel()
	seen := new(seenTokens)
	token := func(n int, until time.Duration) *seenToken {
		s := &seenToken{principal: &Principal{}, until: now.Add(until)}
		binary.LittleEndian.PutUint32(s.hash[4:], uint32(n)) // all in one bucket
		return s
	}
	has := func(s *seenToken, at time.Duration) bool { return seen.find(&s.hash, now.Add(at)) == s.principal }
	a, b, c, d := token(1, 4*time.Minute), token(2, time.Minute), token(3, 3*time.Minute), token(4, 2*time.Minute)
	for _, s := range []*seenToken{a, b, c, d} {
		seen.add(s, now)
	}
	if !has(a, 0) || !has(b, 0) || !has(c, 0) || !has(d, 0) {
		t.Fatal("four do not have room")
	}
	e := token(5, 5*time.Minute)
	seen.add(e, now) // takes the place of b
	if !has(a, 0) || has(b, 0) || !has(c, 0) || !has(d, 0) || !has(e, 0) {
		t.Error("the wrong one was forgotten")
	}
	again := token(3, 5*time.Minute)
	seen.add(again, now) // its own
	if !has(a, 0) || !has(d, 0) || !has(e, 0) || !has(again, 0) {
		t.Error("a token took the place of another although it had one")
	}
	f := token(6, 6*time.Minute)
	seen.add(f, now.Add(2*time.Minute)) // that of d, which is out of date
	if !has(a, 2*time.Minute) || !has(e, 2*time.Minute) || !has(again, 2*time.Minute) || !has(f, 2*time.Minute) {
		t.Error("a token took the place of a good one although another was out of date")
	}
	for i := range 10_000 {
		seen.add(token(i, time.Minute), now)
	}
	n := 0
	for i := range seen {
		for j := range seen[i] {
			if seen[i][j].Load() != nil {
				n++
			}
		}
	}
	if n != seenWays {
		t.Errorf("%d tokens in one bucket", n)
	}
}

// TestRefusedTokensAreNotRemembered: what strangers make up takes no memory.
func TestRefusedTokensAreNotRemembered(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ecOne()))
	for _, token := range []string{
		sign(ecTwo(), object{"kid": "e"}, good()), sign(ecOne(), object{"kid": "x"}, good()), sign(ecOne(), object{"kid": "e"}, good().with("aud", "x")),
		sign(ecOne(), object{"kid": "e"}, good().with("sub", "")),
	} {
		if got := outcome(a.Authenticate(present(token), now)); got == me {
			t.Fatal(got)
		}
	}
	seen := a.tokens.keys.set.Load().seen
	for i := range seen {
		for j := range seen[i] {
			if s := seen[i][j].Load(); s != nil {
				t.Errorf("%v is remembered", s.principal)
			}
		}
	}
}

// TestManyGoroutinesWithManyTokens, for the race detector: everybody is who they are.
func TestManyGoroutinesWithManyTokens(t *testing.T) {
	t.Parallel()
	a := tokens(t, jwk("e", ed()))
	var signed [16]string
	for i := range signed {
		signed[i] = sign(ed(), object{"kid": "e"}, good().with("sub", string(rune('a'+i))))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				n := (g + i) % len(signed)
				if got, want := outcome(a.Authenticate(present(signed[n]), now)), issuer+"|"+string(rune('a'+n)); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
	wg.Wait()
}

// TestASeenTokenCostsNoAllocation, as a key does.
func TestASeenTokenCostsNoAllocation(t *testing.T) {
	a := tokens(t, jwk("e", ecOne()))
	p := present(sign(ecOne(), object{"kid": "e"}, good()))
	if _, err := a.Authenticate(p, now); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if who, err := a.Authenticate(p, now); err != nil || who.Name != me {
			t.Error(who, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
