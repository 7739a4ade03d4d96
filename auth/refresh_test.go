package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server is an issuer's server of keys, in memory, in the fake time of a bubble.
type server struct {
	mu     sync.Mutex
	set    []byte
	fault  error
	delay  time.Duration
	asked  []time.Time
	active atomic.Int32
}

func (s *server) load(ctx context.Context) ([]byte, error) {
	if s.active.Add(1) > 1 {
		panic("two attempts at once")
	}
	defer s.active.Add(-1)
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	delay := s.delay
	s.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, s.fault
}

func (s *server) serve(set []byte, fault error, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.fault, s.delay = set, fault, delay
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// remote is an authenticator whose keys come from the server, and what it was told of changes.
type remote struct {
	*server
	*Authenticator
	t       *testing.T
	tokens  *Verifier
	changes []string
}

// bubble runs a test in fake time.
func bubble(t *testing.T, s *server, test func(r *remote)) {
	t.Helper()
	t.Parallel()
	rsaOne() // keys are made outside, where time passes
	synctest.Test(t, func(t *testing.T) {
		r := &remote{server: s, t: t}
		c := everyAlgorithm(nil)
		c.JWKSURL = "https://issuer.test/jwks"
		c.Changed = func(err error) { r.changes = append(r.changes, fmt.Sprint(err)) }
		v, err := newVerifier(c, s.load, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		r.tokens = v
		if r.Authenticator, err = New(Config{Tokens: v}); err != nil {
			t.Fatal(err)
		}
		test(r)
	})
}

// who presents a token that is good now.
func (r *remote) who(key any, kid string) string {
	header := object{"kid": kid}
	if kid == "" {
		header = object{}
	}
	at := time.Now()
	return outcome(r.Authenticate(present(sign(key, header, good().with("exp", at.Add(time.Hour).Unix(), "iat", at.Unix(), "nbf", at.Unix()))), at))
}

func (r *remote) check(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s, want %s", got, want)
	}
}

func (r *remote) checkAsked(want int) {
	r.t.Helper()
	synctest.Wait()
	if got := r.count(); got != want {
		r.t.Errorf("the issuer was asked %d times, want %d", got, want)
	}
}

func (r *remote) checkChanges(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if fmt.Sprintf("%q", r.changes) != fmt.Sprintf("%q", want) {
		r.t.Errorf("told of %q, want %q", r.changes, want)
	}
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestKeysRotateInTheBackground: a new key works within minutes although nobody has used it, and a removed one stops
// working, for tokens too that were seen before.
func TestKeysRotateInTheBackground(t *testing.T) {
	one, two := jwk("one", ecOne()), jwk("two", ecTwo())
	bubble(t, &server{set: jwks(one)}, func(r *remote) {
		r.check(r.who(ecOne(), "one"), me)
		at := time.Now()
		token := sign(ecOne(), object{"kid": "one"}, good().with("exp", at.Add(time.Hour).Unix(), "iat", at.Unix(), "nbf", at.Unix()))
		again := func() string { return outcome(r.Authenticate(present(token), at)) }
		r.check(again(), me)
		r.serve(jwks(one, two), nil, 0)
		pass(5 * time.Minute)
		r.checkAsked(2)
		r.check(r.who(ecTwo(), "two"), me)
		r.check(again(), me)
		r.checkAsked(2)
		r.serve(jwks(two), nil, 0)
		r.check(again(), me)
		pass(5 * time.Minute)
		r.check(again(), tokenKey)
		r.check(r.who(ecOne(), "one"), tokenKey)
		r.check(r.who(ecTwo(), "two"), me)
		r.checkChanges()
	})
}

// TestAnUnknownKeyIsFetchedAtOnce: the first token of a new key does not wait for the next round, named or not.
func TestAnUnknownKeyIsFetchedAtOnce(t *testing.T) {
	for _, kid := range []string{"two", ""} {
		t.Run("kid "+kid, func(t *testing.T) {
			bubble(t, &server{set: jwks(jwk("one", ecOne()))}, func(r *remote) {
				pass(time.Minute)
				r.serve(jwks(jwk("two", ecTwo())), nil, time.Second)
				begin := time.Now()
				r.check(r.who(ecTwo(), kid), me)
				if took := time.Since(begin); took != time.Second {
					t.Errorf("it took %v", took)
				}
				r.checkAsked(2)
			})
		})
	}
}

// TestAKnownKeyIsNotFetchedAgain, whatever is wrong with the token.
func TestAKnownKeyIsNotFetchedAgain(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne()))}, func(r *remote) {
		pass(time.Minute)
		r.check(r.who(ecTwo(), "one"), tokenSignature)
		r.check(r.who(rsaOne(), "one"), tokenSignature)
		r.check(outcome(r.Authenticate(present(sign(ecOne(), object{"kid": "one"}, object{})), time.Now())), tokenIssuer)
		r.check(outcome(r.Authenticate(present("aGVsbG8.aGVsbG8.aGVsbG8"), time.Now())), tokenMalformed)
		r.check(outcome(r.Authenticate(present(sign(hmacOnly, object{"kid": "two"}, good())), time.Now())), tokenAlgorithm)
		r.checkAsked(1)
	})
}

// TestMadeUpKeysCauseNoStorm: one attempt at a time, and one in ten seconds, however many tokens name keys that do not
// exist; and whoever has a good token does not notice.
func TestMadeUpKeysCauseNoStorm(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne())), delay: time.Second}, func(r *remote) {
		r.check(r.who(ecOne(), "one"), me)
		at := time.Now()
		tokens := make([]string, 50)
		for i := range tokens {
			tokens[i] = sign(ecTwo(), object{"kid": fmt.Sprint("made-up-", i)}, good())
		}
		for range 60 { // for a minute
			var wg sync.WaitGroup
			for _, token := range tokens {
				wg.Go(func() { r.check(outcome(r.Authenticate(present(token), now)), tokenKey) })
			}
			wg.Go(func() {
				begin := time.Now()
				r.check(r.who(ecOne(), "one"), me)
				if took := time.Since(begin); took != 0 {
					t.Errorf("a good token took %v", took)
				}
			})
			wg.Wait()
			pass(time.Second)
		}
		if got, most := r.count(), 1+int(time.Since(at)/(10*time.Second)); got > most || got < 3 {
			t.Errorf("the issuer was asked %d times in %v", got, time.Since(at))
		}
		for i := 1; i < len(r.asked); i++ {
			if gap := r.asked[i].Sub(r.asked[i-1]); gap < 11*time.Second { // and the second that the attempt takes
				t.Errorf("asked again after %v", gap)
			}
		}
		r.checkChanges()
	})
}

// TestWaitingIsBounded: in time, while the issuer does not answer, and in how many wait.
func TestWaitingIsBounded(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne()))}, func(r *remote) {
		pass(time.Minute)
		r.serve(jwks(jwk("two", ecTwo())), nil, time.Hour)
		begin := time.Now()
		r.check(r.who(ecTwo(), "two"), tokenKey)
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		var wg sync.WaitGroup
		var late atomic.Int32
		token := sign(ecTwo(), object{"kid": "two"}, good())
		begin = time.Now()
		for range maxWaiting + 100 {
			wg.Go(func() {
				r.check(outcome(r.Authenticate(present(token), now)), tokenKey)
				if time.Since(begin) > 0 {
					late.Add(1)
				}
			})
		}
		wg.Wait()
		if late.Load() != maxWaiting {
			t.Errorf("%d waited", late.Load())
		}
		r.checkAsked(2)
		pass(10 * time.Second) // the attempt is given up, and the old keys are still good
		r.check(r.who(ecOne(), "one"), me)
		r.checkChanges(context.DeadlineExceeded.Error())
	})
}

// TestAFailedRefreshKeepsTheKeys, whichever way it fails, and is told once, as is its end.
func TestAFailedRefreshKeepsTheKeys(t *testing.T) {
	one := jwks(jwk("one", ecOne()))
	bubble(t, &server{set: one}, func(r *remote) {
		pass(time.Minute)
		for i, bad := range [][]byte{nil, []byte("<html>"), jwks(), jwks(jwk("k", hmacOnly)), jwks(jwk("one", ecTwo(), "use", "enc"))} {
			fault := error(nil)
			if bad == nil {
				fault = errors.New("the issuer is down")
			}
			r.serve(bad, fault, 0)
			pass(5 * time.Minute)
			r.check(r.who(ecOne(), "one"), me)
			if len(r.changes) != 1 || r.changes[0] != "the issuer is down" {
				t.Errorf("after failure %d told of %q", i+1, r.changes)
			}
			if err := r.tokens.Ready(); err != nil {
				t.Error(err)
			}
		}
		asked := r.count()
		pass(5 * time.Minute) // it is asked more often than when all is well, but slowly
		if got := r.count() - asked; got != 10 {
			t.Errorf("asked %d times in five minutes", got)
		}
		r.serve(one, nil, 0)
		pass(time.Minute)
		r.checkChanges("the issuer is down", "<nil>")
		r.serve(nil, errors.New("again"), 0)
		pass(5 * time.Minute)
		r.checkChanges("the issuer is down", "<nil>", "again")
		for i := len(r.asked) - 1; ; i-- { // back to the first attempt after all was well
			if r.asked[i].Sub(r.asked[i-1]) == 5*time.Minute {
				if got := r.asked[i+1].Sub(r.asked[i]); got != time.Second {
					t.Errorf("after a new failure it is asked again in %v", got)
				}
				break
			}
		}
	})
}

// TestAnAttemptAnswersWhoAskedForIt: it does not leave the wish behind, which would be a second one at once.
func TestAnAttemptAnswersWhoAskedForIt(t *testing.T) {
	t.Parallel()
	v := newTokens(t, everyAlgorithm(jwks(jwk("one", ecOne()))))
	v.keys.want <- struct{}{}
	if err := v.keys.attempt(t.Context()); err != nil || len(v.keys.want) > 0 {
		t.Errorf("%v, %d wishes are left", err, len(v.keys.want))
	}
}

// TestWithoutKeysTokensAreUnavailable, not refused; the first requests wait a little, the others do not; and it heals by
// itself, soon at first.
func TestWithoutKeysTokensAreUnavailable(t *testing.T) {
	bubble(t, &server{fault: errors.New("the issuer is down"), delay: 500 * time.Millisecond}, func(r *remote) {
		if err := r.tokens.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		begin := time.Now()
		r.check(r.who(ecOne(), "one"), "unavailable")
		if took := time.Since(begin); took != 500*time.Millisecond {
			t.Errorf("the first took %v", took)
		}
		begin = time.Now()
		for range 10 {
			r.check(r.who(ecOne(), "one"), "unavailable")
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("further ones took %v", took)
		}
		// What is no token is refused all the same.
		r.check(outcome(r.Authenticate(present("aGVsbG8.aGVsbG8.aGVsbG8"), now)), tokenMalformed)
		r.check(outcome(r.Authenticate(present(unknownKey), now)), "rejected: unknown key")
		if err := r.tokens.Ready(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the issuer is down") {
			t.Error(err)
		}
		pass(time.Minute)
		for i, want := range []time.Duration{1500, 2500, 4500, 8500, 16500} { // milliseconds
			if got := r.asked[i+1].Sub(r.asked[i]); got != want*time.Millisecond {
				t.Errorf("attempt %d came %v after the one before", i+2, got)
			}
		}
		asked := r.count()
		begin = time.Now() // long after the last attempt, and long before the next
		r.check(r.who(ecOne(), "one"), "unavailable")
		if took := time.Since(begin); took != 0 {
			t.Errorf("one in between took %v", took)
		}
		r.checkAsked(asked)
		r.serve(jwks(jwk("one", ecOne())), nil, 0)
		pass(31 * time.Second)
		r.check(r.who(ecOne(), "one"), me)
		r.checkChanges("the issuer is down", "<nil>")
		if err := r.tokens.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// TestTheFirstRequestsWaitForTheFirstKeys: a start is not a failure.
func TestTheFirstRequestsWaitForTheFirstKeys(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne())), delay: 1900 * time.Millisecond}, func(r *remote) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { r.check(r.who(ecOne(), "one"), me) })
		}
		wg.Wait()
		r.checkAsked(1)
		r.checkChanges()
	})
}

// TestTheSameKeysKeepTheirTokens: only a set that has changed makes them be verified again.
func TestTheSameKeysKeepTheirTokens(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne()))}, func(r *remote) {
		r.check(r.who(ecOne(), "one"), me)
		set := r.tokens.keys.set.Load()
		pass(20 * time.Minute)
		r.checkAsked(5)
		if r.tokens.keys.set.Load() != set {
			t.Error("the set was replaced by the same one")
		}
		r.serve(jwks(jwk("one", ecOne()), jwk("two", ecTwo())), nil, 0)
		pass(5 * time.Minute)
		if r.tokens.keys.set.Load() == set {
			t.Error("the set was not replaced")
		}
		// Whoever still has the old one gets the new one at once.
		begin := time.Now()
		if got := r.tokens.keys.newer(set); got != r.tokens.keys.set.Load() || time.Since(begin) != 0 {
			t.Errorf("the newer set took %v", time.Since(begin))
		}
		r.checkAsked(6)
	})
}

// TestCloseEndsAnAttempt, and whoever waits for it; what is known goes on being judged.
func TestCloseEndsAnAttempt(t *testing.T) {
	bubble(t, &server{set: jwks(jwk("one", ecOne()))}, func(r *remote) {
		pass(time.Minute)
		r.serve(nil, nil, time.Hour)
		var wg sync.WaitGroup
		begin := time.Now()
		wg.Go(func() { r.check(r.who(ecTwo(), "two"), tokenKey) })
		synctest.Wait()
		r.tokens.Close()
		wg.Wait()
		r.check(r.who(ecTwo(), "two"), tokenKey)
		r.check(r.who(ecOne(), "one"), me)
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v", took)
		}
		r.checkChanges() // it is no failure of the issuer
	})
}

// TestAFileOfKeysIsReadAgain when it changes, replaced as Kubernetes does it or written in place, and a broken one is told
// and leaves the keys as they were.
func TestAFileOfKeysIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, next := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "next")
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, jwks(jwk("one", ecOne())))
	synctest.Test(t, func(t *testing.T) {
		r := &remote{t: t}
		c := everyAlgorithm(nil)
		c.JWKSFile = path
		c.Changed = func(err error) { r.changes = append(r.changes, fmt.Sprint(err)) }
		v, err := NewVerifier(c)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Ready(); err != nil {
			t.Error(err)
		}
		r.Authenticator = newTest(t, Config{Tokens: v})
		r.check(r.who(ecOne(), "one"), me)
		write(next, jwks(jwk("two", ecTwo())))
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		r.check(r.who(ecOne(), "one"), tokenKey)
		r.check(r.who(ecTwo(), "two"), me)
		r.checkChanges()

		write(path, jwks(jwk("three", ecThree()))[:60])
		pass(5 * time.Second)
		r.check(r.who(ecTwo(), "two"), me)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		r.check(r.who(ecTwo(), "two"), me)
		r.checkChanges("the key set is not a JSON object with keys")
		write(path, jwks(jwk("three", ecThree())))
		pass(2 * time.Second)
		r.check(r.who(ecThree(), "three"), me) // it is looked at when a token asks
		r.check(r.who(ecTwo(), "two"), tokenKey)
		r.checkChanges("the key set is not a JSON object with keys", "<nil>")
		write(path, []byte(strings.Repeat(" ", maxKeySet+1)))
		pass(5 * time.Second)
		r.check(r.who(ecThree(), "three"), me)
		r.checkChanges("the key set is not a JSON object with keys", "<nil>", "the key set is larger than 1 MiB")
	})
}
