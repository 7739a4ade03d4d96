package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// stores are those that keep what the interface promises.
var stores = map[string]func(t *testing.T, l Limits, c *clock) Store{
	"memory": func(_ *testing.T, l Limits, c *clock) Store {
		m := NewMemory(l)
		m.now = c.Now
		return m
	},
	"file": func(t *testing.T, l Limits, c *clock) Store {
		t.Helper()
		f, err := openFile(filepath.Join(t.TempDir(), "state.db"), l, c.Now)
		if err != nil {
			t.Fatal(err)
		}
		return f
	},
}

func init() {
	memory := stores["memory"]
	stores["sealed"] = func(t *testing.T, l Limits, c *clock) Store {
		t.Helper()
		for _, l := range []*int64{&l.MaxBytes, &l.MaxOwnerBytes, &l.MaxConversationBytes} {
			*l += *l / 20 // what the encryption adds
		}
		s, err := Seal(memory(t, l, c), [][]byte{[]byte("0123456789abcdef0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// everyStore runs a test over all of them.
func everyStore(t *testing.T, l Limits, f func(t *testing.T, s Store, c *clock)) {
	t.Helper()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			s := open(t, l, c)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, s, c)
		})
	}
}

var background = context.Background()

func put(conv string, kind Kind, name, value string) Entry {
	return Entry{Ref{conv, kind, name}, []byte(value)}
}

func save(t *testing.T, s Store, owner string, c Change) {
	t.Helper()
	if err := s.Save(background, owner, c); err != nil {
		t.Fatal(err)
	}
}

// turns are those of a conversation, in a line.
func turns(t *testing.T, s Store, owner, conv string) string {
	t.Helper()
	f, err := s.Read(background, owner, Read{Convs: []string{conv}})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range f.Turns[0] {
		if e.Conv != conv || e.Kind != Turn {
			t.Errorf("a turn of %v", e.Ref)
		}
		all = append(all, e.Name+"="+string(e.Value))
	}
	return strings.Join(all, " ")
}

func value(t *testing.T, s Store, owner string, r Ref) string {
	t.Helper()
	f, err := s.Read(background, owner, Read{Refs: []Ref{r}})
	if err != nil {
		t.Fatal(err)
	}
	if f.Values[0] == nil {
		return "none"
	}
	return string(f.Values[0])
}

// TestTurnsAreReadInOrder, apart from objects, and values are their reader's own.
func TestTurnsAreReadInOrder(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{}, func(t *testing.T, s Store, _ *clock) {
		mine := []byte("one")
		save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "2", "two"), {Ref{"c", Turn, "1"}, mine}, put("c", Object, "0", "object"), put("c2", Turn, "1", "other"), put("c", Turn, "10", "")}})
		copy(mine, "XXX")
		f, err := s.Read(background, "ann", Read{Convs: []string{"c", "none", "c2"}, Refs: []Ref{{"c", Object, "0"}, {"c", Turn, "0"}, {"c", Turn, "1"}, {"c", Turn, "10"}, {"none", Object, "0"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := turns(t, s, "ann", "c"); got != "1=one 10= 2=two" {
			t.Errorf("got %s", got)
		}
		if f.Turns[1] != nil || len(f.Turns[2]) != 1 {
			t.Errorf("got %v", f.Turns)
		}
		if string(f.Values[0]) != "object" || f.Values[1] != nil || string(f.Values[2]) != "one" || f.Values[3] == nil || len(f.Values[3]) != 0 || f.Values[4] != nil {
			t.Errorf("got %q", f.Values)
		}
		copy(f.Turns[0][0].Value, "XXX")
		copy(f.Values[0], "XXX")
		if got := turns(t, s, "ann", "c"); got != "1=one 10= 2=two" {
			t.Errorf("got %s", got)
		}
	})
}

// TestChangesAreWhole: removals come before what is written, and what a change needs must be there.
func TestChangesAreWhole(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{MaxConversationBytes: 1000}, func(t *testing.T, s Store, _ *clock) {
		save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "1", "one"), put("c", Object, "1", "o")}})
		before := s.Stats()
		for what, c := range map[string]Change{
			"gone":  {Need: []Ref{{"c", Turn, "1"}, {"c", Turn, "2"}}, Remove: []Ref{{"c", Turn, "1"}}, Put: []Entry{put("c", Turn, "3", "three")}},
			"large": {Remove: []Ref{{"c", Turn, "1"}}, Put: []Entry{put("d", Turn, "1", "x"), put("c", Turn, "3", strings.Repeat("x", 1000))}},
		} {
			if err := s.Save(background, "ann", c); what == "gone" && !errors.Is(err, ErrGone) || what == "large" && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v", what, err)
			}
			if got := turns(t, s, "ann", "c"); got != "1=one" || turns(t, s, "ann", "d") != "" || s.Stats() != before {
				t.Errorf("%s: got %s, %+v", what, got, s.Stats())
			}
		}
		save(t, s, "ann", Change{Need: []Ref{{"c", Turn, "1"}}, Remove: []Ref{{"c", Turn, "1"}, {"c", Turn, "9"}, {"none", Turn, "1"}}, Put: []Entry{put("c", Turn, "2", "two")}})
		if got := turns(t, s, "ann", "c"); got != "2=two" {
			t.Errorf("got %s", got)
		}
		save(t, s, "ann", Change{Remove: []Ref{{Conv: "c"}}, Put: []Entry{put("c", Turn, "3", "three"), put("c", Turn, "3", "drei")}})
		if got := turns(t, s, "ann", "c"); got != "3=drei" || value(t, s, "ann", Ref{"c", Object, "1"}) != "none" {
			t.Errorf("got %s", got)
		}
		save(t, s, "ann", Change{Remove: []Ref{{Conv: "c"}}})
		if got := s.Stats(); got.Bytes != 0 || got.Conversations != 0 || turns(t, s, "ann", "c") != "" {
			t.Errorf("got %+v", got)
		}
		for _, r := range []Ref{{"", Turn, "x"}, {"c", Turn, "a b"}, {"c", 0, "x"}, {"c/d", Turn, "x"}, {"c", Turn, strings.Repeat("x", 129)}, {"c", Turn, "ä"}, {"c", Turn, ""}} {
			if err := s.Save(background, "ann", Change{Put: []Entry{{r, nil}}}); err == nil {
				t.Errorf("%v was taken", r)
			}
		}
	})
}

// TestOwnersAreApart: the same names are not the same conversations.
func TestOwnersAreApart(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{}, func(t *testing.T, s Store, _ *clock) {
		for _, owner := range []string{"ann", "bob", "", "issuer|ü/ \x00"} {
			save(t, s, owner, Change{Put: []Entry{put("c", Turn, "1", "of "+owner)}})
		}
		for _, owner := range []string{"ann", "bob", "", "issuer|ü/ \x00"} {
			if got := turns(t, s, owner, "c"); got != "1=of "+owner {
				t.Errorf("%q: got %s", owner, got)
			}
		}
		save(t, s, "ann", Change{Remove: []Ref{{Conv: "c"}}})
		if turns(t, s, "bob", "c") == "" || s.Stats().Conversations != 3 {
			t.Errorf("got %+v", s.Stats())
		}
	})
}

// TestUnusedConversationsGo: whole, when nobody has read or changed them for the time to live.
func TestUnusedConversationsGo(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{TTL: time.Hour}, func(t *testing.T, s Store, c *clock) {
		for _, conv := range []string{"left", "read", "looked", "changed"} {
			save(t, s, "ann", Change{Put: []Entry{put(conv, Turn, "1", "x"), put(conv, Object, "1", "x")}})
		}
		c.pass(40 * time.Minute)
		turns(t, s, "ann", "read")
		value(t, s, "ann", Ref{"looked", Object, "1"})
		save(t, s, "ann", Change{Put: []Entry{put("changed", Turn, "2", "x")}})
		c.pass(40 * time.Minute)
		if turns(t, s, "ann", "left") != "" || value(t, s, "ann", Ref{"left", Object, "1"}) != "none" {
			t.Error("it is still there")
		}
		if err := s.Save(background, "ann", Change{Need: []Ref{{"left", Turn, "1"}}}); !errors.Is(err, ErrGone) {
			t.Errorf("got %v", err)
		}
		for _, conv := range []string{"read", "looked", "changed"} {
			if turns(t, s, "ann", conv) == "" {
				t.Errorf("%s has gone", conv)
			}
		}
		save(t, s, "ann", Change{Put: []Entry{put("new", Turn, "1", "x")}})
		if got := s.Stats(); got.Conversations != 4 || got.Expired != 1 || got.EvictedOwner+got.EvictedTotal != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestTheLeastRecentlyUsedMakeRoom: of an owner in his share, of anybody in the store.
func TestTheLeastRecentlyUsedMakeRoom(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 900) // some 1,000 bytes with the rest
	everyStore(t, Limits{MaxOwnerBytes: 3100, MaxBytes: 5100}, func(t *testing.T, s Store, c *clock) {
		add := func(owner, conv string) {
			t.Helper()
			c.pass(time.Second)
			save(t, s, owner, Change{Put: []Entry{put(conv, Turn, "1", text)}})
		}
		here := func(owner string, convs ...string) string {
			var all []string
			for _, conv := range convs {
				f, err := s.Read(background, owner, Read{Refs: []Ref{{conv, Turn, "1"}}})
				if err != nil {
					t.Fatal(err)
				}
				if f.Values[0] != nil {
					all = append(all, conv)
				}
			}
			return strings.Join(all, " ")
		}
		add("ann", "1")
		add("ann", "2")
		add("ann", "3")
		c.pass(time.Second)
		turns(t, s, "ann", "1")
		add("ann", "4")
		if got := s.Stats(); got.EvictedOwner != 1 || got.EvictedTotal != 0 || got.Conversations != 3 {
			t.Errorf("got %+v", got)
		}
		if got := here("ann", "1", "2", "3", "4"); got != "1 3 4" {
			t.Errorf("got %s", got)
		}
		add("bob", "1")
		add("bob", "2")
		add("bob", "3") // 6 of 5: the one that nobody looked at for longest goes
		if got := s.Stats(); got.EvictedOwner != 1 || got.EvictedTotal != 1 || got.Conversations != 5 {
			t.Errorf("got %+v", got)
		}
		if got := here("ann", "1", "3", "4") + ", " + here("bob", "1", "2", "3"); got != "3 4, 1 2 3" {
			t.Errorf("got %s", got)
		}
		// The one that grows is never the one that goes.
		c.pass(time.Second)
		save(t, s, "bob", Change{Put: []Entry{put("1", Turn, "2", text)}})
		if got := here("bob", "1", "2", "3"); got != "1 3" {
			t.Errorf("got %s", got)
		}
		if err := s.Save(background, "bob", Change{Put: []Entry{put("9", Turn, "1", strings.Repeat(text, 4))}}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v", err)
		}
		if got := here("bob", "1", "3"); got != "1 3" {
			t.Errorf("what cannot be kept has cost %s", got)
		}
	})
}

// TestManyMakeRoomForOne: however many have to go, in the end there is no more than there may be.
func TestManyMakeRoomForOne(t *testing.T) {
	t.Parallel()
	const many, most = 700, 200_000
	for _, l := range []Limits{{MaxOwnerBytes: most}, {MaxBytes: most}, {MaxOwnerBytes: most, MaxBytes: most + most/4}} {
		everyStore(t, l, func(t *testing.T, s Store, c *clock) {
			for i := range many {
				c.pass(time.Second)
				save(t, s, []string{"ann", "bob"}[i%2], Change{Put: []Entry{put(strconv.Itoa(i), Turn, "1", "x")}})
			}
			before := s.Stats()
			c.pass(time.Second)
			save(t, s, "ann", Change{Put: []Entry{put("large", Turn, "1", strings.Repeat("x", most-1000))}})
			got := s.Stats()
			limit, least := l.MaxBytes, int64(600)
			if limit == 0 { // bob's stay
				limit = l.MaxOwnerBytes + before.Bytes/2
			}
			if limit += 10_000; l.MaxOwnerBytes > 0 { // what sealing adds is not counted
				least = 250
			}
			if gone := got.EvictedOwner + got.EvictedTotal; got.Bytes > limit || gone < least || gone > many || got.Conversations != many+1-gone {
				t.Errorf("%+v, then %+v: at least %d go, and %d bytes stay", before, got, least, limit)
			}
			if f, err := s.Read(background, "ann", Read{Refs: []Ref{{"large", Turn, "1"}}}); err != nil || len(f.Values[0]) != most-1000 {
				t.Errorf("%v, %d bytes of it", err, len(f.Values[0]))
			}
		})
	}
}

// TestLeases are one holder's at a time, end by themselves, and are given back by their holder alone.
func TestLeases(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{}, func(t *testing.T, s Store, c *clock) {
		lease := func(owner, holder string, want bool) {
			t.Helper()
			if ok, err := s.Lease(background, owner, "l", holder, time.Minute); err != nil || ok != want {
				t.Errorf("%s: got %v, %v", holder, ok, err)
			}
		}
		held := func(want string) {
			t.Helper()
			if got, err := s.Leased(background, "ann", "l"); err != nil || got != want {
				t.Errorf("got %q, %v", got, err)
			}
		}
		held("")
		lease("ann", "1", true)
		lease("ann", "2", false)
		lease("bob", "2", true)
		held("1")
		c.pass(40 * time.Second)
		lease("ann", "1", true)
		c.pass(40 * time.Second)
		lease("ann", "2", false)
		if err := s.Release(background, "ann", "l", "2"); err != nil {
			t.Error(err)
		}
		held("1")
		if err := s.Release(background, "ann", "l", "1"); err != nil {
			t.Error(err)
		}
		held("")
		lease("ann", "2", true)
		c.pass(time.Minute)
		held("")
		lease("ann", "3", true)
	})
}

// TestManyAtOnce: changes of one conversation do not mix, and each is seen as soon as it is made.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{MaxBytes: 1 << 20}, func(t *testing.T, s Store, _ *clock) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 20 {
					name := fmt.Sprintf("%d-%d", i, j)
					if err := s.Save(background, "ann", Change{Put: []Entry{put("c", Turn, name, name), put("c", Object, name, name)}}); err != nil {
						t.Error(err)
					}
					f, err := s.Read(background, "ann", Read{Convs: []string{"c"}, Refs: []Ref{{"c", Object, name}}})
					if err != nil || string(f.Values[0]) != name {
						t.Errorf("got %v, %v", f.Values, err)
					}
					for _, e := range f.Turns[0] {
						if e.Name != string(e.Value) {
							t.Errorf("got %s of %s", e.Value, e.Name)
						}
					}
				}
			})
		}
		all.Wait()
		f, err := s.Read(background, "ann", Read{Convs: []string{"c"}})
		if err != nil || len(f.Turns[0]) != 160 {
			t.Errorf("got %d, %v", len(f.Turns[0]), err)
		}
	})
}

// TestCallsEnd: behind Close nothing can be done, and a call does not outlast its context.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	everyStore(t, Limits{}, func(t *testing.T, s Store, _ *clock) {
		over, cancel := context.WithCancel(background)
		cancel()
		if _, err := s.Read(over, "ann", Read{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := s.Save(over, "ann", Change{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := s.Ping(background); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_, err := s.Read(background, "ann", Read{Convs: []string{"c"}})
		_, err2 := s.Lease(background, "ann", "l", "1", time.Minute)
		_, err3 := s.Leased(background, "ann", "l")
		for i, err := range []error{err, err2, err3, s.Save(background, "ann", Change{Put: []Entry{put("c", Turn, "1", "x")}}), s.Release(background, "ann", "l", "1"), s.Ping(background)} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%d: got %v", i, err)
			}
		}
	})
}
