package ratelimit

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheTightestLimitIsShownAndNeverTheProxysOwn(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	lim := func(requests, tokens int64) Limits {
		return Limits{Requests: Rate{Events: requests, Per: time.Minute}, Tokens: Rate{Events: tokens, Per: time.Minute}}
	}
	for _, v := range []struct {
		key, agent, global Limits
		requests, tokens   int64 // the limits that are shown
	}{
		{lim(10, 100), lim(20, 200), lim(5, 50), 10, 100},
		{lim(20, 100), lim(10, 200), lim(5, 50), 10, 100},
		{lim(20, 200), lim(10, 100), Limits{}, 10, 100},
		{Limits{}, lim(10, 100), lim(5, 50), 10, 100},
		{lim(10, 0), lim(0, 100), Limits{}, 10, 100},
		{Limits{}, Limits{}, lim(5, 50), 0, 0},
		{concurrent(3), Limits{}, lim(5, 50), 0, 0},
	} {
		name := t.Name() + strings.Repeat("'", rand.IntN(1<<20)%50)
		scopes := [3]*Scope{l.Scope(Key, name, v.key), l.Scope(Agent, name, v.agent), l.Scope(Global, name, v.global)}
		st := l.Peek(t.Context(), scopes)
		if st.Requests.Limit != v.requests || st.Tokens.Limit != v.tokens || st.Requests.Limited != (v.requests > 0) || st.Any() != (v.requests+v.tokens > 0) {
			t.Errorf("%+v shows %+v", v, st)
		}
	}
	// The least that is left wins, whatever the limits; of equals the smaller limit.
	wide, narrow := l.Scope(Key, "wide", lim(100, 100)), l.Scope(Agent, "narrow", lim(10, 10))
	for range 95 {
		mustPass(t, l, wide, 1)
	}
	g := new(Grant)
	l.Take(t.Context(), [3]*Scope{wide, narrow}, 0, g)
	if st := g.Status(); st.Requests.Limit != 100 || st.Requests.Remaining != 4 {
		t.Errorf("shown is %+v", st.Requests)
	}
	for range 5 {
		mustPass(t, l, narrow, 1)
	}
	if st := g.Status(); st.Requests.Limit != 10 || st.Requests.Remaining != 4 {
		t.Errorf("of equals %+v is shown", st.Requests)
	}
	if (new(Grant)).Status().Any() {
		t.Error("the zero grant has limits")
	}
}

func TestPeekingTakesNothing(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", perSecond(3))
	mustPass(t, l, s, 0)
	for range 10 {
		if q := l.Peek(t.Context(), [3]*Scope{s}).Requests; q.Remaining != 2 || q.Limit != 3 {
			t.Fatalf("the quota is %+v", q)
		}
	}
}

func TestAQuotaSaysWhenThereIsMore(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(60, time.Minute))
	for _, v := range []struct {
		full      time.Duration
		remaining int64
		next      time.Duration
	}{
		{0, 60, 0}, {1, 59, 1}, {time.Second, 59, time.Second}, {time.Second + 1, 58, 1}, {1500 * time.Millisecond, 58, 500 * time.Millisecond},
		{time.Minute - 1, 0, time.Second - 1}, {time.Minute, 0, time.Second}, {2 * time.Minute, 0, time.Minute + time.Second},
	} {
		q := s.plan.meters[whole][Tokens].quota(v.full)
		if q.Remaining != v.remaining || q.Next != v.next || q.Reset != v.full || q.Limit != 60 {
			t.Errorf("%v: got %+v, want %d and the next in %v", v.full, q, v.remaining, v.next)
		}
	}
}

func TestAWindowIsWhatTheRuleAdmitsWithinIt(t *testing.T) {
	t.Parallel()
	quota := func(events int64, per time.Duration, burst, remaining int64) Quota {
		r := Rate{events, per, burst}.normal()
		return Quota{Limit: r.Burst, Remaining: remaining, Rate: r, Limited: true}
	}
	const day = 24 * time.Hour
	for _, v := range []struct {
		q                Quota
		w                time.Duration
		limit, remaining int64
	}{
		{quota(60, time.Minute, 60, 60), time.Minute, 60, 60},
		{quota(60, time.Minute, 60, 12), time.Minute, 60, 12},
		{quota(60, time.Minute, 60, 12), time.Hour, 3600, 3552},
		{quota(60, time.Minute, 60, 60), day, 86400, 86400},
		{quota(60, time.Minute, 10, 10), time.Minute, 60, 60},
		{quota(60, time.Minute, 10, 0), time.Minute, 60, 50},
		{quota(1000, time.Hour, 1000, 700), time.Minute, 1000, 700},
		{quota(1000, time.Hour, 1000, 700), day, 24000, 23700},
		{quota(5000, day, 5000, 3), time.Minute, 5000, 3},
		{quota(10, time.Second, 10, 4), time.Minute, 600, 594},
		{quota(10, time.Second, 10, 4), -1, 10, 4},
		{Quota{}, time.Minute, 0, 0},
	} {
		if limit, remaining := v.q.Window(v.w); limit != v.limit || remaining != v.remaining {
			t.Errorf("%v with %d left: %d of %d within %v, want %d of %d", v.q.Rate, v.q.Remaining, remaining, limit, v.w, v.remaining, v.limit)
		}
	}
}

// TestAWindowKeepsItsPromise takes as much as the window says from any state of a bucket, and gets it.
func TestAWindowKeepsItsPromise(t *testing.T) {
	t.Parallel()
	for _, rate := range []Rate{{60, time.Minute, 60}, {7, time.Second, 3}, {1000, time.Hour, 1000}, {10, time.Second, 10}} {
		for used := range min(rate.Burst, 12) {
			c := new(clock)
			l := New(Options{Now: c.now})
			s := l.Scope(Key, "k", Limits{Requests: rate})
			for range used {
				mustPass(t, l, s, 0)
			}
			window := time.Minute
			_, promised := l.Peek(t.Context(), [3]*Scope{s}).Requests.Window(window)
			var got int64
			for c.ns.Load() <= int64(window) {
				if _, r := ask(t, l, s, 0); r == nil {
					got++
				} else {
					c.add(r.Wait)
				}
			}
			if got < promised-1 { // of odd rates the nanosecond that is rounded up may cost one
				t.Errorf("%v, %d used: %d promised, %d had", rate, used, promised, got)
			}
		}
	}
}

func TestEveryFieldOfTheLimitsIsTold(t *testing.T) {
	t.Parallel()
	requests := Quota{Limit: 60, Remaining: 59, Reset: time.Second, Next: time.Second, Rate: Rate{60, time.Minute, 60}, Limited: true}
	tok := Quota{Limit: 1000, Remaining: 0, Reset: 6 * time.Minute, Next: 5*time.Minute + 600*time.Microsecond, Rate: Rate{100_000, time.Minute, 1000}, Limited: true}
	now := time.Unix(1_700_000_000, 1)
	for name, c := range map[string]struct {
		s    Status
		want string
	}{
		"nothing": {Status{}, ""},
		"requests": {Status{Requests: requests}, `
x-ratelimit-limit-requests: 60
x-ratelimit-remaining-requests: 59
x-ratelimit-reset-requests: 1s
RateLimit: "requests";r=59;t=1
RateLimit-Policy: "requests";q=60;w=60
X-RateLimit-Limit-Minute: 60
X-RateLimit-Remaining-Minute: 59
X-RateLimit-Limit-Day: 86400
X-RateLimit-Remaining-Day: 86399
X-RateLimit-Reset: 1700000002
X-RateLimit-Tier: premium`},
		"tokens": {Status{Tokens: tok}, `
x-ratelimit-limit-tokens: 1000
x-ratelimit-remaining-tokens: 0
x-ratelimit-reset-tokens: 6m0s
RateLimit: "tokens";r=0;t=301
RateLimit-Policy: "tokens";q=100000;qu="tokens";w=60;dragoman-burst=1000`},
		"both": {Status{requests, tok}, `
x-ratelimit-limit-requests: 60
x-ratelimit-remaining-requests: 59
x-ratelimit-reset-requests: 1s
x-ratelimit-limit-tokens: 1000
x-ratelimit-remaining-tokens: 0
x-ratelimit-reset-tokens: 6m0s
RateLimit: "requests";r=59;t=1, "tokens";r=0;t=301
RateLimit-Policy: "requests";q=60;w=60, "tokens";q=100000;qu="tokens";w=60;dragoman-burst=1000
X-RateLimit-Limit-Minute: 60
X-RateLimit-Remaining-Minute: 59
X-RateLimit-Limit-Day: 86400
X-RateLimit-Remaining-Day: 86399
X-RateLimit-Reset: 1700000002
X-RateLimit-Tier: premium`},
		"full, and no whole seconds": {Status{Tokens: Quota{Limit: 1e18, Remaining: 1e18, Rate: Rate{1e18, 1500 * time.Millisecond, 1e18}, Limited: true}}, `
x-ratelimit-limit-tokens: 1000000000000000000
x-ratelimit-remaining-tokens: 1000000000000000000
x-ratelimit-reset-tokens: 0s
RateLimit: "tokens";r=999999999999999
RateLimit-Policy: "tokens";q=999999999999999;qu="tokens"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			c.s.Headers(now, func(name, value string) { got += "\n" + name + ": " + value })
			if got != c.want {
				t.Errorf("got%s\nwant%s", got, c.want)
			}
			var of []string
			(&Refusal{Wait: 1200*time.Millisecond + 1, Status: c.s}).Headers(now, func(name, value string) { of = append(of, name+": "+value) })
			if len(of) < 2 || of[0] != "Retry-After: 2" || of[1] != "retry-after-ms: 1201" || "\n"+strings.Join(of[2:], "\n") != "\n"+strings.TrimPrefix(c.want, "\n") {
				t.Errorf("of a refusal: %q", of)
			}
		})
	}
}

func TestResetsAreMillisecondsRoundedUp(t *testing.T) {
	t.Parallel()
	for reset, want := range map[time.Duration]string{
		0: "0s", 1: "1ms", 120 * time.Millisecond: "120ms", 119*time.Millisecond + 1: "120ms", 6 * time.Minute: "6m0s",
		time.Hour + 1500*time.Millisecond: "1h0m1.5s", maxSpan: "1250h59m59.627371s",
	} {
		s := Status{Requests: Quota{Limit: 1, Reset: reset, Rate: Rate{1, time.Second, 1}, Limited: true}}
		var got []string
		s.Headers(time.Unix(0, 0), func(name, value string) { got = append(got, name, value) })
		i := slices.Index(got, "x-ratelimit-reset-requests")
		if reset == maxSpan {
			want = ((reset + time.Millisecond - 1).Truncate(time.Millisecond)).String()
		}
		if got[i+1] != want {
			t.Errorf("%d is %q, want %q", reset, got[i+1], want)
		}
	}
}

func TestWaitsAreRoundedUp(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration][2]int64{
		-5: {1, 1}, 0: {1, 1}, 1: {1, 1}, time.Millisecond: {1, 1}, time.Millisecond + 1: {1, 2}, time.Second: {1, 1000},
		time.Second + 1: {2, 1001}, 90 * time.Second: {90, 90_000}, maxSpan: {4503600, 4503599628},
	} {
		if got := [2]int64{RetryAfter(wait), RetryAfterMillis(wait)}; got != want {
			t.Errorf("%v is %v, want %v", wait, got, want)
		}
	}
}

func TestNamesOfWhatIsCounted(t *testing.T) {
	t.Parallel()
	got := []string{Key.String(), Agent.String(), Global.String(), Requests.String(), Tokens.String(), Concurrent.String(), Unavailable.String(), Gone.String(),
		Local.String(), Open.String(), Closed.String(), Up.String(), Down.String()}
	want := strings.Fields("key agent global requests tokens concurrent unavailable gone local open closed up down")
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
