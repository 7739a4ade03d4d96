package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// now is the time in these tests.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Keys of these tests; the names say what they are.
const (
	liveKey     = "dk_live000000000000000000000000000000000000000"
	otherKey    = "dk_other00000000000000000000000000000000000000"
	expiredKey  = "dk_expired000000000000000000000000000000000000"
	disabledKey = "dk_disabled00000000000000000000000000000000000"
	scopedKey   = "dk_scoped0000000000000000000000000000000000000"
	unknownKey  = "dk_unknown000000000000000000000000000000000000"
)

func key(name, text string) Key { return Key{Name: name, Hash: HashKey([]byte(text))} }

func testKeys() []Key {
	expired, disabled, scoped := key("front", expiredKey), key("front", disabledKey), key("research", scopedKey)
	expired.Expires = now
	disabled.Disabled = true
	scoped.Agents = []string{"support", "research-*"}
	return []Key{expired, key("front", liveKey), disabled, key("other", otherKey), scoped}
}

func newTest(t testing.TB, c Config) *Authenticator {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// header is the value of a header, nil for -.
func header(value string) []byte {
	if value == "-" {
		return nil
	}
	return []byte(value)
}

// outcome is the caller's name, or the error and its reason.
func outcome(p *Principal, err error) string {
	switch {
	case err == nil && p == Anonymous:
		return "anonymous"
	case err == nil:
		return p.Name
	case p != nil:
		return "a principal and an error"
	case errors.Is(err, ErrRejected):
		return "rejected: " + Reason(err)
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return err.Error()
}

// TestWhoIsCalling is the table of what may be presented and what becomes of it.
func TestWhoIsCalling(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxCredential)
	a := newTest(t, Config{Keys: append(testKeys(), key("long", long), key("punctuation", `!"#$%&'()*,:;<>?@[\]^{|}`), key("padded", "YWJjZGVmZ2hpamtsbW5vcA=="))})
	f := func(authorization, apiKey, want string) {
		t.Helper()
		if got := outcome(a.Authenticate(Presented{header(authorization), header(apiKey)}, now)); got != want {
			t.Errorf("%.60q, %.60q: %s, want %s", authorization, apiKey, got, want)
		}
	}
	const malformed, missing, unknown = "rejected: malformed credential", "rejected: no credential", "rejected: unknown key"

	// What lets a caller in.
	f("Bearer "+liveKey, "-", "front")
	f("-", liveKey, "front")
	f("bearer "+liveKey, "-", "front")
	f("BEARER "+liveKey, "-", "front")
	f("bEaReR "+otherKey, "-", "other")
	f("Bearer "+liveKey, liveKey, "front") // equal: fine
	f("Bearer "+long, "-", "long")
	f("-", long, "long")
	f("Bearer YWJjZGVmZ2hpamtsbW5vcA==", "-", "padded")
	f("-", `!"#$%&'()*,:;<>?@[\]^{|}`, "punctuation") // a header of its own has no grammar to keep

	// What does not, all alike.
	f("-", "-", missing)
	f("", "-", malformed) // a header without a value is not an absent header
	f("-", "", malformed)
	f("Bearer", "-", malformed)
	f("Bearer ", "-", malformed)
	f("Bearer  "+liveKey, "-", malformed)
	f("Bearer\t"+liveKey, "-", malformed)
	f(" Bearer "+liveKey, "-", malformed)
	f("Bearer "+liveKey+" ", "-", malformed)
	f("Bearer "+liveKey+"\x00", "-", malformed)
	f("Bearer "+liveKey+"\n", "-", malformed)
	f("Bearer "+liveKey+", Bearer "+otherKey, "-", malformed)
	f("Bearer "+liveKey+","+otherKey, "-", malformed)
	f("Bearer "+liveKey+" "+otherKey, "-", malformed)
	f(`Bearer "`+liveKey+`"`, "-", malformed)
	f("Bearer token="+liveKey, "-", malformed) // = ends token68
	f("Bearer =", "-", malformed)
	f("Bearer ====================", "-", malformed)
	f("Bearer:"+liveKey, "-", malformed)
	f("Bearer"+liveKey, "-", malformed)
	f("Token "+liveKey, "-", malformed)
	f("Basic "+liveKey, "-", malformed)
	f("B\x05arer "+liveKey, "-", malformed) // 0x05|0x20 is not e
	f("bEARER\x00"+liveKey, "-", malformed)
	f(liveKey, "-", malformed)
	f("Bearer clé"+liveKey, "-", malformed)
	f("Bearer "+long+"a", "-", malformed)
	f("-", long+"a", malformed)
	f("-", " "+liveKey, malformed)
	f("-", liveKey+"\x7f", malformed)
	f("-", "Bearer "+liveKey, malformed)
	f("Bearer 0123456789abcdefghi", "-", malformed) // 19 bytes
	f("-", "0123456789abcdefghi", malformed)
	f("Bearer 0123456789abcdefghij", "-", unknown) // 20
	f("Bearer "+unknownKey, "-", unknown)
	f("-", unknownKey, unknown)
	f("Bearer "+unknownKey, unknownKey, unknown)
	f("Bearer "+liveKey[:len(liveKey)-1], "-", unknown)
	f("Bearer "+liveKey+"0", "-", unknown)
	f("Bearer "+strings.ToUpper(liveKey), "-", unknown)
	f("Bearer "+expiredKey, "-", "rejected: expired key")
	f("-", expiredKey, "rejected: expired key")
	f("Bearer "+disabledKey, "-", "rejected: disabled key")

	// Two that differ.
	f("Bearer "+liveKey, otherKey, "conflict")
	f("Bearer "+otherKey, liveKey, "conflict")
	f("Bearer "+liveKey, "", "conflict")
	f("", liveKey, "conflict")
	f("", "", "conflict")
	f("Basic "+liveKey, liveKey, "conflict")
	f("Bearer "+liveKey, liveKey+" ", "conflict")
	f("Bearer "+liveKey+" ", liveKey, "conflict")
	f("Bearer "+unknownKey, disabledKey, "conflict")
	f("Bearer !"+liveKey, "!"+liveKey, malformed) // equal, and equally bad
}

// TestForwardedAuthorizationIsTheBackends: where an agent forwards it, it neither authenticates with a key nor conflicts.
func TestForwardedAuthorizationIsTheBackends(t *testing.T) {
	t.Parallel()
	a := newTest(t, Config{Keys: testKeys(), Forwards: true})
	f := func(authorization, apiKey, want string) {
		t.Helper()
		if got := outcome(a.Authenticate(Presented{header(authorization), header(apiKey)}, now)); got != want {
			t.Errorf("%q, %q: %s, want %s", authorization, apiKey, got, want)
		}
	}
	for _, authorization := range []string{"-", "", "Bearer of.the.backend", "Basic YTpi", "Bearer " + liveKey, "Bearer " + otherKey, "\x00", "a, b"} {
		f(authorization, liveKey, "front")
		f(authorization, unknownKey, "rejected: unknown key")
		f(authorization, expiredKey, "rejected: expired key")
		f(authorization, "", "rejected: malformed credential")
		f(authorization, "-", "rejected: no credential")
	}
}

// TestOpenAsksNobody: with mode none nothing is looked at.
func TestOpenAsksNobody(t *testing.T) {
	t.Parallel()
	a := newTest(t, Config{Open: true})
	for _, p := range []Presented{{}, {Authorization: []byte("Bearer x"), APIKey: []byte("y")}, {APIKey: []byte{}}} {
		if got := outcome(a.Authenticate(p, now)); got != "anonymous" {
			t.Errorf("%q: %s", p, got)
		}
	}
	if !Anonymous.May("anything") || Anonymous.Name != "" || Anonymous.Token {
		t.Errorf("anonymous is %+v", Anonymous)
	}
}

// TestEveryRefusalDoesTheSameWork: one hash, one lookup and one comparison, whatever is wrong, and for a good key too.
func TestEveryRefusalDoesTheSameWork(t *testing.T) {
	t.Parallel()
	for _, forwards := range []bool{false, true} {
		a := newTest(t, Config{Keys: testKeys(), Forwards: forwards})
		for _, p := range []Presented{
			{}, {APIKey: []byte{}}, {APIKey: []byte("short")}, {APIKey: []byte("with a space in it, which is malformed")},
			{APIKey: bytes.Repeat([]byte("a"), 64<<10)},
			{APIKey: []byte(liveKey)}, {APIKey: []byte(expiredKey)}, {APIKey: []byte(disabledKey)}, {APIKey: []byte(unknownKey)},
			{Authorization: []byte{}}, {Authorization: []byte("Bearer short")}, {Authorization: []byte("Basic " + liveKey)},
			{Authorization: []byte("Bearer  " + liveKey)}, {Authorization: []byte("Bearer " + liveKey)},
			{Authorization: []byte("Bearer " + expiredKey)}, {Authorization: []byte("Bearer " + unknownKey)},
			{Authorization: []byte("Bearer " + disabledKey), APIKey: []byte(disabledKey)},
		} {
			var did work
			a.keys.Load().work = &did
			_, _ = a.Authenticate(p, now)
			if did != (work{1, 1, 1}) {
				t.Errorf("forwards %v, %.60q: %+v", forwards, p, did)
			}
		}
	}
}

// TestNoErrorRepeatsTheCredential: an error is one of a fixed list, and what a client is told is the same for all.
func TestNoErrorRepeatsTheCredential(t *testing.T) {
	t.Parallel()
	a := newTest(t, Config{Keys: testKeys()})
	for _, k := range []string{liveKey[1:], expiredKey, disabledKey, unknownKey, "short", ""} {
		for _, p := range []Presented{{Authorization: []byte("Bearer " + k)}, {APIKey: []byte(k)}, {Authorization: []byte(k)}} {
			_, err := a.Authenticate(p, now)
			if !errors.Is(err, ErrRejected) || errors.Is(err, ErrConflict) || errors.Is(err, ErrUnavailable) {
				t.Fatalf("%q: %v", k, err)
			}
			if len(k) > 5 && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), k[3:]) {
				t.Errorf("%q repeats the key", err)
			}
			if ErrRejected.Error() != "not authenticated" || !strings.HasPrefix(err.Error(), "not authenticated: ") {
				t.Errorf("%q", err)
			}
		}
	}
	if got := Reason(ErrConflict); got != "" {
		t.Errorf("the reason of a conflict is %q", got)
	}
}

// TestKeysAreLookedUpByTheirWholeHash: a hash that is equal but for its last byte is another key.
func TestKeysAreLookedUpByTheirWholeHash(t *testing.T) {
	t.Parallel()
	for i := range 32 {
		k := key("near", liveKey)
		k.Hash[i] ^= 1
		a := newTest(t, Config{Keys: []Key{k}})
		if got := outcome(a.Authenticate(Presented{APIKey: []byte(liveKey)}, now)); got != "rejected: unknown key" {
			t.Errorf("byte %d differs: %s", i, got)
		}
	}
	// The decoy that unknown keys are compared with is not a key, even if the map said so.
	k, err := newKeyring(testKeys())
	if err != nil {
		t.Fatal(err)
	}
	wrong := *k.byHash[HashKey([]byte(otherKey))]
	k.byHash[HashKey([]byte(liveKey))] = &wrong
	if p, _, r := k.find([]byte(liveKey), nil, now); p != nil || r != errUnknown {
		t.Errorf("a wrong entry of the table was taken: %v, %v", p, r)
	}
}

// TestKeysExpire at the moment that is written, to the nanosecond, and not a moment before.
func TestKeysExpire(t *testing.T) {
	t.Parallel()
	f := func(expires, at time.Time, want string) {
		t.Helper()
		k := key("front", liveKey)
		k.Expires = expires
		a := newTest(t, Config{Keys: []Key{k}})
		if got := outcome(a.Authenticate(Presented{APIKey: []byte(liveKey)}, at)); got != want {
			t.Errorf("expires %v, at %v: %s, want %s", expires, at, got, want)
		}
	}
	const expired = "rejected: expired key"
	f(time.Time{}, now, "front")
	f(time.Time{}, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "front")
	f(now, now, expired)
	f(now, now.Add(-1), "front")
	f(now.Add(1), now, "front")
	f(now.Add(1), now.Add(1), expired)
	f(now.Add(time.Hour), now.Add(time.Hour-time.Nanosecond), "front")
	f(now.In(time.FixedZone("east", 7*3600)), now, expired)
	f(time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), now, expired)
}

// TestRotation: several keys of one name are one caller, and a dead one among them spoils nothing.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, reversed := range []bool{false, true} {
		keys := testKeys()
		if reversed {
			slices.Reverse(keys)
		}
		second := key("front", "dk_second000000000000000000000000000000000000")
		second.Agents = []string{"support"}
		a := newTest(t, Config{Keys: append(keys, second)})
		first, err := a.Authenticate(Presented{APIKey: []byte(liveKey)}, now)
		if err != nil || first.Name != "front" || first.Token || !first.May("billing") {
			t.Fatalf("%+v, %v", first, err)
		}
		p, err := a.Authenticate(Presented{APIKey: []byte("dk_second000000000000000000000000000000000000")}, now)
		if err != nil || p.Name != "front" || p.May("billing") || !p.May("support") {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, dead := range []string{expiredKey, disabledKey} {
			if got := outcome(a.Authenticate(Presented{APIKey: []byte(dead)}, now)); !strings.HasPrefix(got, "rejected") {
				t.Errorf("%s: %s", dead, got)
			}
		}
	}
}

// TestScope: names and patterns; nil is everything and empty is nothing.
func TestScope(t *testing.T) {
	t.Parallel()
	f := func(agents []string, agent string, want bool) {
		t.Helper()
		k := key("front", liveKey)
		k.Agents = agents
		a := newTest(t, Config{Keys: []Key{k}})
		p, err := a.Authenticate(Presented{APIKey: []byte(liveKey)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.May(agent); got != want {
			t.Errorf("%q may call %q: %v", agents, agent, got)
		}
	}
	f(nil, "anything", true)
	f([]string{}, "anything", false)
	f([]string{""}, "anything", false)
	f([]string{"support"}, "support", true)
	f([]string{"support"}, "Support", false)
	f([]string{"support"}, "support2", false)
	f([]string{"support"}, "", false)
	f([]string{"support", "research-*"}, "research-web", true)
	f([]string{"support", "research-*"}, "research-", true)
	f([]string{"support", "research-*"}, "research", false)
	f([]string{"support", "research-*"}, "my-research-web", false)
	f([]string{"*"}, "anything", true)
	f([]string{"*-web"}, "research-web", true)
	f([]string{"*-web"}, "research-web2", false)
	f([]string{"a*b*c"}, "abc", true)
	f([]string{"a*b*c"}, "aXbXbXc", true)
	f([]string{"a*b*c"}, "acb", false)
	f([]string{"a*"}, "*", false)
	f([]string{"a?"}, "ab", false)
	f([]string{"[a]"}, "a", false)
	f([]string{strings.Repeat("*a", 100) + "b"}, strings.Repeat("a", 1000), false) // not in exponential time
}

// TestNewFailsClosed names what it refuses.
func TestNewFailsClosed(t *testing.T) {
	t.Parallel()
	f := func(c Config, want string) {
		t.Helper()
		a, err := New(c)
		if want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			return
		}
		if a != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
		if _, err := newKeyring(c.Keys); err == nil {
			return // it is the configuration as a whole
		}
		good := newTest(t, Config{Keys: testKeys()})
		if err := good.SetKeys(c.Keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SetKeys(%+v): %v, want %q", c.Keys, err, want)
		}
		if got := outcome(good.Authenticate(Presented{APIKey: []byte(liveKey)}, now)); got != "front" {
			t.Errorf("after keys that were refused: %s", got)
		}
	}
	expires := key("a", liveKey)
	expires.Expires = now
	none := key("a", liveKey)
	none.Agents = []string{}
	f(Config{}, "nobody could call")
	f(Config{Forwards: true}, "nobody could call")
	f(Config{Open: true}, "")
	f(Config{Tokens: &Verifier{}}, "")
	f(Config{Keys: []Key{key("a", liveKey)}}, "")
	f(Config{Keys: []Key{{Name: "a"}}}, `key 1 ("a"): has no hash`)
	f(Config{Keys: []Key{key("", liveKey)}}, "has no name")
	f(Config{Keys: []Key{key("https://issuer|me", liveKey)}}, "has a |")
	f(Config{Keys: []Key{key("a", "")}}, "is empty")
	f(Config{Keys: []Key{key("a", liveKey), key("b", liveKey)}}, `key 2 ("b"): is the same key as one of "a"`)
	f(Config{Keys: []Key{key("a", liveKey), key("c", otherKey), key("a", liveKey)}}, "") // it says the same twice
	f(Config{Keys: []Key{key("a", liveKey), expires}}, "is the same key")
	f(Config{Keys: []Key{key("a", liveKey), none}}, "is the same key")
	f(Config{Keys: []Key{{Name: "a"}, key("", liveKey)}}, "key 2") // all at once
	f(Config{Open: true, Keys: []Key{{Name: "a"}}}, "has no hash")
}

// TestSetKeys takes away, adds, and keeps what it had when there would be none.
func TestSetKeys(t *testing.T) {
	t.Parallel()
	a := newTest(t, Config{Keys: testKeys()})
	who := func(k string) string { return outcome(a.Authenticate(Presented{APIKey: []byte(k)}, now)) }
	keys := []Key{key("new", unknownKey)}
	keys[0].Agents = []string{"support"}
	if err := a.SetKeys(keys); err != nil {
		t.Fatal(err)
	}
	keys[0].Agents[0], keys[0].Name = "billing", "changed" // the slice is the caller's
	if got := who(unknownKey); got != "new" {
		t.Error(got)
	}
	if p, _ := a.Authenticate(Presented{APIKey: []byte(unknownKey)}, now); p.May("billing") {
		t.Error("the scope was changed from outside")
	}
	if got := who(liveKey); got != "rejected: unknown key" {
		t.Error(got)
	}
	if err := a.SetKeys(nil); err == nil {
		t.Error("no keys at all were taken")
	}
	if got := who(unknownKey); got != "new" {
		t.Error(got)
	}
}

// TestKeysAreSwappedUnderLoad: whoever has a key in both sets is never refused. For the race detector.
func TestKeysAreSwappedUnderLoad(t *testing.T) {
	t.Parallel()
	a := newTest(t, Config{Keys: testKeys()})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if p, err := a.Authenticate(Presented{APIKey: []byte(liveKey)}, now); err != nil || p.Name != "front" {
					t.Errorf("%v, %v", p, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		if err := a.SetKeys(append(testKeys(), key("more", fmt.Sprintf("dk_more%030d", i)))); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

// TestGenerateKey makes keys that are recognised, long, different, presentable in both headers, and without a bias.
func TestGenerateKey(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^dk_[0-9A-Za-z]{43}$`)
	seen := map[string]bool{}
	count := map[rune]int{}
	const n = 3000
	for range n {
		k, err := GenerateKey()
		if err != nil || !form.MatchString(k) || seen[k] {
			t.Fatalf("%q, %v", k, err)
		}
		seen[k] = true
		for _, c := range k[3:] {
			count[c]++
		}
	}
	if len(count) != 62 {
		t.Errorf("%d different digits", len(count))
	}
	for c, got := range count { // 2080 expected, with a standard deviation of 45; a bias of 256 mod 62 would be 25%
		if got < 1700 || got > 2460 {
			t.Errorf("%c was drawn %d times of %d", c, got, n*43)
		}
	}
	k, _ := GenerateKey()
	a := newTest(t, Config{Keys: []Key{key("made", k)}})
	if got := outcome(a.Authenticate(Presented{Authorization: []byte("Bearer " + k), APIKey: []byte(k)}, now)); got != "made" {
		t.Error(got)
	}
}

// TestTheDemoKey is long enough to work, and recognised by its hash.
func TestTheDemoKey(t *testing.T) {
	t.Parallel()
	if DemoKey != "dragoman-demo-key-for-loopback-only" || len(DemoKey) < minCredential {
		t.Errorf("the published key has changed to %q", DemoKey)
	}
	if !IsDemo(sha256.Sum256([]byte(DemoKey))) || IsDemo(HashKey([]byte(liveKey))) || IsDemo([32]byte{}) {
		t.Error("the demo key is not recognised")
	}
	a := newTest(t, Config{Keys: []Key{key("demo", DemoKey)}})
	if got := outcome(a.Authenticate(Presented{Authorization: []byte("Bearer " + DemoKey)}, now)); got != "demo" {
		t.Error(got)
	}
}

// TestKeysCostNoAllocation, neither those that are let in nor those that are refused.
func TestKeysCostNoAllocation(t *testing.T) {
	a := newTest(t, Config{Keys: testKeys()})
	for _, p := range []Presented{
		{Authorization: []byte("Bearer " + liveKey)}, {APIKey: []byte(scopedKey)}, {Authorization: []byte("Bearer " + liveKey), APIKey: []byte(liveKey)},
		{Authorization: []byte("Bearer " + unknownKey)}, {Authorization: []byte("Bearer " + expiredKey)}, {APIKey: []byte(disabledKey)},
		{}, {Authorization: []byte("Basic x")}, {Authorization: []byte("Bearer " + liveKey), APIKey: []byte(otherKey)},
		{APIKey: bytes.Repeat([]byte("a"), 8<<10)},
	} {
		if n := testing.AllocsPerRun(100, func() {
			who, err := a.Authenticate(p, now)
			if err == nil && who.May("research-web") != true {
				t.Error("out of scope")
			}
			if err != nil && errors.Is(err, ErrRejected) && Reason(err) == "" {
				t.Error("no reason")
			}
		}); n > 0 {
			t.Errorf("%.60q: %v allocations", p, n)
		}
	}
}

// FuzzAuthorization: nothing panics, nothing but the key itself is let in, and what is let in reads the same both ways.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer " + liveKey, "bearer " + unknownKey, "Bearer a.b.c", "Basic YTpi", "Bearer  x", "Bearer " + liveKey + ",", "Bearer ="} {
		f.Add([]byte(s), []byte(liveKey), true)
		f.Add([]byte(s), []byte(s), false)
	}
	keys := testKeys()
	plain, err := New(Config{Keys: keys})
	if err != nil {
		f.Fatal(err)
	}
	forwards, err := New(Config{Keys: keys, Forwards: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, apiKey []byte, both bool) {
		p := Presented{Authorization: authorization}
		if both {
			p.APIKey = apiKey
		}
		who, err := plain.Authenticate(p, now)
		credential, ok := bearer(authorization)
		if ok && (len(credential) > maxCredential || bytes.ContainsAny(credential, " ,\t\r\n\x00\"")) {
			t.Errorf("%q was taken for a bearer", authorization)
		}
		if err == nil {
			if who == nil || authorization != nil && (!ok || !slices.ContainsFunc([]string{liveKey, otherKey, scopedKey}, func(k string) bool { return k == string(credential) })) {
				t.Errorf("%q, %q: let in as %v", authorization, apiKey, who)
			}
		} else if who != nil || outcome(nil, err) == err.Error() {
			t.Errorf("%v, %v", who, err)
		}
		if _, err := forwards.Authenticate(p, now); errors.Is(err, ErrConflict) {
			t.Error("a conflict with a header that is not ours")
		}
	})
}
