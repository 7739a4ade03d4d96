package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxEvents bounds the count of a [Rate], so that no arithmetic with it overflows.
	maxEvents = 1_000_000_000_000
	// maxConcurrent bounds limits of concurrency, as it does connections.
	maxConcurrent = 10_000_000
)

// Rate is how often something may happen: so many events in a time, out of a bucket that refills evenly. In the file it
// is a count and a unit of time, such as 60/m, 10/s, 1000/h or 5000/d; "60/m burst 10" keeps the bucket smaller than its
// rate. The zero Rate limits nothing.
type Rate struct {
	// Events is how many may happen within Per, in the long run; from 1 to 10¹². Zero means that there is no limit.
	Events int64

	// Per is the time of the rate: a second, a minute, an hour or a day.
	Per time.Duration

	// Burst is the size of the bucket: how many may happen at once after a pause. Default: Events. Lower it where a
	// minute's worth must not arrive within one second. From 1 to Events.
	Burst int64
}

// Limits are the bounds of one subject: a key, an agent, or the whole proxy. The zero Limits bound nothing.
type Limits struct {
	// Requests is how many requests may begin; each item of a batch counts. Default: no limit.
	Requests Rate

	// Tokens is how many tokens may be used, input and output together, as the backend reports them; an estimate is
	// reserved before the backend runs and settled after. Default: no limit.
	Tokens Rate

	// Concurrent is how many requests may run at the same time; more wait in a short queue. It is counted by each
	// replica for itself. Default: 0, no limit.
	Concurrent int
}

// IsZero reports whether nothing is limited.
func (l Limits) IsZero() bool { return l == Limits{} }

// RateLimits say how often callers may call. Nothing is limited unless it is written; what a key or an agent may do is
// written there.
type RateLimits struct {
	// Store is where counts are kept: memory, or redis, which replicas share. Default: memory. Take redis where more
	// than one replica runs and a limit is meant for all of them together.
	Store string

	// OnError is what happens while Redis does not answer: local counts in the process, each replica its share of the
	// limits; open lets everything pass; closed answers 503. Default: local. Take closed where a budget must hold at the
	// price of an outage.
	OnError string

	// Replicas is by how much local counting divides the limits. Default: 1. Set it to how many replicas run.
	Replicas int

	// Default is for keys without limits of their own, and for the subjects of tokens. Each has it for itself. Default:
	// no limit.
	Default Limits

	// Global is the ceiling of the whole proxy: beyond it the answer is 503, where a key's or an agent's limit is 429.
	// Default: no limit. Set it to what the backends bear.
	Global Limits

	// Queue is where requests wait for a limit of concurrency. See [Queue].
	Queue Queue
}

// Queue is where requests wait, first come first served, while as many run as a limit of concurrency allows.
type Queue struct {
	// Length is how many wait at the same time for one limit; 0 means that none does. Default: 64, at most 10000. Each
	// holds a connection and its body.
	Length int

	// Wait is how long one waits before it is refused; 0s means not at all. Default: 2s, at most 60s.
	Wait time.Duration
}

// Redis is the server that replicas share counts in; see [RateLimits].Store.
type Redis struct {
	// URL is redis://host:port/db, rediss:// for TLS, or unix:///path of a socket. Required with limits.store: redis. It
	// is a [Secret], because it may hold a password.
	URL Secret

	// Timeout is how long a decision waits for Redis before limits.on_error takes over. Default: 50ms, from 1ms to 10s.
	// It is added to every request while Redis stalls, until a breaker opens.
	Timeout time.Duration
}

// DefaultRateLimits are the limits of an empty file: none.
func DefaultRateLimits() RateLimits {
	return RateLimits{Store: "memory", OnError: "local", Replicas: 1, Queue: Queue{Length: 64, Wait: 2 * time.Second}}
}

// DefaultRedis is how Redis is asked where nothing is written.
func DefaultRedis() Redis { return Redis{Timeout: 50 * time.Millisecond} }

// read reads the section and returns what is written.
func (l *RateLimits) read(v value) map[string]value {
	return v.mapping(fields{
		"store":    oneOf(&l.Store, "memory", "redis"),
		"on_error": oneOf(&l.OnError, "local", "open", "closed"),
		"replicas": integer(&l.Replicas, 1, 10_000),
		"default":  l.Default.read,
		"global":   l.Global.read,
		"queue":    l.Queue.read,
	})
}

func (l *Limits) read(v value) {
	v.mapping(fields{
		"requests":   rate(&l.Requests),
		"tokens":     rate(&l.Tokens),
		"concurrent": concurrent(&l.Concurrent),
	})
}

func (q *Queue) read(v value) {
	v.mapping(fields{
		"length": integer(&q.Length, 0, 10_000),
		"wait":   boundedSpan(&q.Wait, 0, time.Minute),
	})
}

func (r *Redis) read(v value) map[string]value {
	return v.mapping(fields{
		"url":     r.readURL,
		"timeout": boundedSpan(&r.Timeout, time.Millisecond, 10*time.Second),
	})
}

func (r *Redis) readURL(v value) {
	var found Secret
	secret(&found)(v)
	if found.IsZero() {
		return
	}
	u, err := url.Parse(found.Reveal())
	if err != nil || strings.HasSuffix(found.Reveal(), "#") || !isRedis(u) {
		v.problem("wants redis://[[user]:password@]host[:port][/db], rediss:// for TLS, or unix:///path of a socket[?db=n], " +
			"a password in it percent-encoded")
		return
	}
	_, password := u.User.Password()
	if host := net.JoinHostPort(u.Hostname(), "0"); password && u.Scheme == "redis" && !(Target{Scheme: "http", Host: host}).Loopback() {
		v.warn("sends its password over the network unencrypted: use rediss://")
	}
	r.URL = found
}

// isRedis reports whether a url can be that of a Redis server. The store is as strict, and what it would refuse at the
// start is to be told here, with its line.
func isRedis(u *url.URL) bool {
	if password, _ := u.User.Password(); u.User != nil && password == "" || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	db := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		if port, err := strconv.ParseUint(cmp.Or(u.Port(), "6379"), 10, 16); err != nil || port == 0 {
			return false
		}
		if u.Hostname() == "" || u.RawQuery != "" || u.ForceQuery {
			return false
		}
	case "unix":
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil || u.Host != "" || db == "" || len(query) > 1 || len(query) == 1 && len(query["db"]) != 1 {
			return false
		}
		db = query.Get("db")
	default:
		return false
	}
	n, err := strconv.Atoi(cmp.Or(db, "0"))
	return err == nil && n >= 0
}

// concurrent reads a limit of concurrency.
func concurrent(to *int) func(value) {
	const want = "a whole number from 1 to 10000000"
	return func(v value) {
		text, ok := v.scalar(want)
		if !ok {
			return
		}
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 0 || n > maxConcurrent:
			v.problem("wants %s, not %s", want, v.shown())
		case n == 0:
			v.problem("must not be 0: leave it out for no limit, or write disabled: true for a key that must not call")
		default:
			*to = n
		}
	}
}

// rate reads a [Rate].
func rate(to *Rate) func(value) {
	return func(v value) {
		const want = `a rate such as 60/m, 10/s, 1000/h, 5000/d or "60/m burst 10"`
		text, ok := v.scalar(want)
		if !ok {
			return
		}
		r, problem := parseRate(text)
		if problem != "" {
			v.problem("wants %s, not %s: %s", want, v.shown(), problem)
			return
		}
		*to = r
	}
}

// parseRate reads a rate. The problem does not quote it.
func parseRate(text string) (r Rate, problem string) {
	words := strings.Fields(text)
	if len(words) != 1 && len(words) != 3 || len(words) == 3 && words[1] != "burst" {
		return r, "it is a count, a slash and a unit, and perhaps the word burst with a count"
	}
	count, unit, ok := strings.Cut(words[0], "/")
	if !ok {
		return r, "a count needs its time: /s, /m, /h or /d"
	}
	if r.Events, problem = parseCount(count); problem != "" {
		return Rate{}, problem
	}
	switch unit {
	case "s":
		r.Per = time.Second
	case "m":
		r.Per = time.Minute
	case "h":
		r.Per = time.Hour
	case "d":
		r.Per = 24 * time.Hour
	default:
		return Rate{}, "the units are s, m, h and d"
	}
	r.Burst = r.Events
	if len(words) == 3 {
		if r.Burst, problem = parseCount(words[2]); problem != "" {
			return Rate{}, "of the burst, " + problem
		}
		if r.Burst > r.Events {
			return Rate{}, "the burst must not be more than the count"
		}
	}
	return r, ""
}

// parseCount reads a count of events.
func parseCount(text string) (n int64, problem string) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case strings.HasPrefix(text, "-"):
		return 0, "the count must not be negative"
	case err == nil && n == 0:
		return 0, "the count must not be 0: leave it out for no limit"
	case strings.Trim(text, "0123456789") != "" || text == "":
		return 0, "the count must be a whole number in digits"
	case err != nil || n > maxEvents:
		return 0, fmt.Sprintf("the count must be at most %d", int64(maxEvents))
	}
	return n, ""
}

// checkLimits holds what the sections mean together. section is where redis is written.
func (c *Config) checkLimits(written map[string]value, section value, redis map[string]value) {
	if at, ok := written["store"]; ok && c.Limits.Store == "redis" && c.Redis.URL.IsZero() {
		if _, broken := redis["url"]; !broken {
			at.problem("needs redis.url, such as redis: {url: {env: REDIS_URL}}")
		}
	}
	if c.Limits.Store != "redis" {
		if len(redis) > 0 && c.State.Store != "redis" {
			section.warn("is not used: neither limits.store nor state.store is redis")
		}
		if at, ok := written["on_error"]; ok && c.Limits.OnError != "local" {
			at.warn("is not used: limits.store is memory")
		}
		if at, ok := written["replicas"]; ok && c.Limits.Replicas != 1 {
			at.warn("is not used: limits.store is memory")
		}
	}
	if at, ok := written["default"]; ok && c.Open() && !c.Limits.Default.IsZero() {
		at.warn("is not used: with auth.mode none callers are not told apart; write limits.global, or an agent's limits")
	}
}
