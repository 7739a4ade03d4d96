package ratelimit

import (
	"strconv"
	"time"
)

const (
	// SwarmsTier is what X-RateLimit-Tier says. The vendor's tiers are free and premium; here there is no better one to buy.
	SwarmsTier = "premium"

	// policyIntegers is the largest integer of a structured field.
	policyIntegers = 999_999_999_999_999
)

// RetryAfter is a wait in seconds for the field Retry-After: rounded up, at least 1.
func RetryAfter(wait time.Duration) int64 { return max(seconds(wait), 1) }

// RetryAfterMillis is a wait in milliseconds for the field retry-after-ms: rounded up, at least 1.
func RetryAfterMillis(wait time.Duration) int64 { return max(ceil(wait, time.Millisecond), 1) }

func seconds(d time.Duration) int64 { return ceil(d, time.Second) }

func ceil(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}

// Headers calls set for every field that tells a caller of its limits: x-ratelimit-… as OpenAI's clients read them, whose resets are Go
// durations; RateLimit and RateLimit-Policy of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10); and X-RateLimit-… of Swarms,
// where requests are limited. There is none for what is not limited. now is the wall clock.
//
// In RateLimit t is how long until one more is there. RateLimit-Policy names the rule; where the bucket is smaller than that,
// dragoman-burst says its size.
func (s *Status) Headers(now time.Time, set func(name, value string)) {
	if s == nil || !s.Any() {
		return
	}
	var space [512]byte
	f := fields{b: space[:0]}
	if q := &s.Requests; q.Limited {
		f.openAI(q, &requestFields)
	}
	if q := &s.Tokens; q.Limited {
		f.openAI(q, &tokenFields)
	}
	f.ietf(s)
	if q := &s.Requests; q.Limited {
		f.swarms(q, now)
	}
	f.tell(set)
}

// Headers calls set for Retry-After and retry-after-ms, and for what Status has to say.
func (r *Refusal) Headers(now time.Time, set func(name, value string)) {
	set("Retry-After", strconv.FormatInt(RetryAfter(r.Wait), 10))
	set("retry-after-ms", strconv.FormatInt(RetryAfterMillis(r.Wait), 10))
	r.Status.Headers(now, set)
}

var (
	requestFields = [3]string{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}
	tokenFields   = [3]string{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"}
)

// fields gathers the values of all fields in one piece of memory.
type fields struct {
	b     []byte
	names [14]string
	ends  [14]int
	n     int
}

func (f *fields) end(name string) {
	f.names[f.n], f.ends[f.n] = name, len(f.b)
	f.n++
}

func (f *fields) integer(name string, n int64) {
	f.b = strconv.AppendInt(f.b, n, 10)
	f.end(name)
}

func (f *fields) tell(set func(name, value string)) {
	text, start := string(f.b), 0
	for i, name := range f.names[:f.n] {
		set(name, text[start:f.ends[i]])
		start = f.ends[i]
	}
}

func (f *fields) openAI(q *Quota, names *[3]string) {
	f.integer(names[0], q.Limit)
	f.integer(names[1], q.Remaining)
	f.b = append(f.b, time.Duration(ceil(q.Reset, time.Millisecond)*int64(time.Millisecond)).String()...)
	f.end(names[2])
}

func (f *fields) ietf(s *Status) {
	more := false
	item := func(name string) {
		if more {
			f.b = append(f.b, ", "...)
		}
		more = true
		f.b = append(f.b, name...)
	}
	if q := &s.Requests; q.Limited {
		item(`"requests"`)
		f.left(q)
	}
	if q := &s.Tokens; q.Limited {
		item(`"tokens"`)
		f.left(q)
	}
	f.end("RateLimit")
	more = false
	if q := &s.Requests; q.Limited {
		item(`"requests"`)
		f.policy(q, "")
	}
	if q := &s.Tokens; q.Limited {
		item(`"tokens"`)
		f.policy(q, `;qu="tokens"`)
	}
	f.end("RateLimit-Policy")
}

func (f *fields) left(q *Quota) {
	f.parameter(";r=", q.Remaining)
	if q.Reset > 0 { // else there is no more to come
		f.parameter(";t=", seconds(q.Next))
	}
}

func (f *fields) policy(q *Quota, unit string) {
	f.parameter(";q=", q.Rate.Events)
	f.b = append(f.b, unit...)
	if q.Rate.Per%time.Second == 0 { // the draft has no shorter windows
		f.parameter(";w=", seconds(q.Rate.Per))
	}
	if q.Limit < q.Rate.Events {
		f.parameter(";dragoman-burst=", q.Limit)
	}
}

func (f *fields) parameter(name string, n int64) {
	f.b = strconv.AppendInt(append(f.b, name...), min(n, policyIntegers), 10)
}

func (f *fields) swarms(q *Quota, now time.Time) {
	limit, left := q.Window(time.Minute)
	f.integer("X-RateLimit-Limit-Minute", limit)
	f.integer("X-RateLimit-Remaining-Minute", left)
	limit, left = q.Window(24 * time.Hour)
	f.integer("X-RateLimit-Limit-Day", limit)
	f.integer("X-RateLimit-Remaining-Day", left)
	f.integer("X-RateLimit-Reset", ceilUnix(now.Add(q.Reset)))
	f.b = append(f.b, SwarmsTier...)
	f.end("X-RateLimit-Tier")
}

func ceilUnix(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}
