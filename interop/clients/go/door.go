package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
)

// words are what is asked at the door.
const words = "hello"

var (
	strangers = []string{"none", "unknown", "short", "expired", "disabled"}
	scope     = []string{"chat", "scripted-chat", "scripted-responses"} // of a scoped key, see door/config.yaml
	ways      = []string{"chat, JSON", "chat, stream", "responses, JSON", "responses, stream"}
)

// door is the client at a proxy that checks keys and counts.
type door struct {
	suite
	url, ceiling string
	mu           sync.Mutex
	used         map[string]int
}

func newDoor() *door {
	return &door{url: os.Getenv("DOOR_URL"), ceiling: os.Getenv("CEILING_URL"), used: map[string]int{}}
}

// key is one of this client; see door/keys.py.
func key(kind string) string { return "dragoman-interop-openai-go-" + kind }

// fresh is a key that counts, and that no other test uses.
func (d *door) fresh(kind string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used[kind]++
	return key(kind + "-" + strconv.Itoa(d.used[kind]))
}

func (d *door) client(key string, more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(d.url + "/v1"), option.WithAPIKey(key)}, more...)...)
}

// bad is a client with a key that is no good.
func (d *door) bad(kind string, more ...option.RequestOption) openai.Client {
	switch kind {
	case "none":
		return d.client("", append(more, option.WithHeaderDel("Authorization"))...)
	case "unknown":
		return d.client(key("nobody"), more...)
	case "short":
		return d.client("sk-short", more...)
	}
	return d.client(key(kind), more...)
}

// drain reads a stream to its end. What is refused has none of it.
func drain[T any](s *ssestream.Stream[T]) error {
	n := 0
	for s.Next() {
		n++
	}
	switch {
	case s.Err() != nil && n > 0:
		return fmt.Errorf("%d parts of an answer, then %w", n, s.Err())
	case s.Err() == nil && n == 0:
		return fmt.Errorf("an empty stream")
	}
	return s.Err()
}

// say asks one of the ways, and reads all of the answer.
func say(c *openai.Client, way, agent string, more ...option.RequestOption) error {
	ctx := context.Background()
	face, mode, _ := strings.Cut(way, ", ")
	agent = cmp.Or(agent, "scripted-"+face)
	switch face + mode {
	case "chatJSON":
		_, err := c.Chat.Completions.New(ctx, ask(agent, words), more...)
		return err
	case "chatstream":
		return drain(c.Chat.Completions.NewStreaming(ctx, ask(agent, words), more...))
	case "responsesJSON":
		_, err := c.Responses.New(ctx, askResponses(agent, words), more...)
		return err
	}
	return drain(c.Responses.NewStreaming(ctx, askResponses(agent, words), more...))
}

// attempt is one of a client at an answer.
type attempt struct {
	sent, received time.Time
	status         int
	ms, s          string // that it was told to wait
	count          string
}

type attempts struct {
	mu  sync.Mutex
	all []attempt
	on  func(status int)
}

// note is for the client: it sees every request and what came of it.
func (a *attempts) note() option.RequestOption {
	return option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		sent := time.Now()
		resp, err := next(r)
		if err != nil {
			return resp, err
		}
		a.mu.Lock()
		a.all = append(a.all, attempt{sent, time.Now(), resp.StatusCode, resp.Header.Get("Retry-After-Ms"), resp.Header.Get("Retry-After"), r.Header.Get("X-Stainless-Retry-Count")})
		a.mu.Unlock()
		if a.on != nil {
			a.on(resp.StatusCode)
		}
		return resp, err
	})
}

func (a *attempts) statuses() []int {
	var list []int
	for _, one := range a.all {
		list = append(list, one.status)
	}
	return list
}

// told checks that none came before the time that the one before it was told.
func (a *attempts) told(x t) {
	for i := range len(a.all) - 1 {
		one, two := a.all[i], a.all[i+1]
		ms, err := strconv.Atoi(one.ms)
		x.ok(err)
		s, err := strconv.Atoi(one.s)
		x.ok(err)
		x.check(0 < ms && ms <= 1000*s, "told %d ms and %d s", ms, s)
		waited := two.sent.Sub(one.received)
		x.check(waited >= time.Duration(ms)*time.Millisecond, "told %d ms, waited %v", ms, waited)
	}
}

// untilRefused asks until one of the attempts at an answer was refused, which must
// not be the last.
func (a *attempts) untilRefused(x t, status int, say func() error) {
	for range 50 {
		a.all = nil
		x.ok(say())
		n := len(a.all) - 1
		x.equal(a.all[n].status, 200)
		if n == 0 {
			continue
		}
		for _, one := range a.all[:n] {
			x.equal(one.status, status)
		}
		a.told(x)
		return
	}
	x.fatal("no attempt was refused")
}

// sameAs is an error as it would be about another agent, without what differs
// from one request to the next.
func sameAs(e *openai.Error, agent string) string {
	h := e.Response.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Content-Length"} {
		h.Del(name)
	}
	return strings.ReplaceAll(fmt.Sprint(e.Message, e.Type, e.Code, e.Param, e.RawJSON(), h), agent, "AGENT")
}

func (d *door) keys() {
	ctx := context.Background()
	d.each("401 is an Error with its status, never tried again", ways, func(x t, way string) {
		want := ""
		for _, kind := range strangers {
			a := &attempts{}
			c := d.bad(kind, a.note())
			e := apiError(x, say(&c, way, ""), 401)
			x.equal(a.statuses(), []int{401})
			x.equal([]string{e.Type, e.Code, e.Param}, []string{"authentication_error", "invalid_api_key", ""})
			x.check(strings.Contains(e.Message, "A valid key is needed") && strings.Contains(e.Message, "x-api-key: KEY"), "%s", e.Message)
			x.check(!strings.Contains(e.Error(), "dragoman-interop"), "the key: %v", e)
			x.equal(e.Response.Header.Get("WWW-Authenticate"), `Bearer realm="dragoman"`)
			same := sameAs(e, "-")
			want = cmp.Or(want, same)
			x.equal(same, want)
		}
	})
	d.test("a key in x-api-key is as good, and 401 is for lists too", func(x t) {
		c := d.client("", option.WithHeaderDel("Authorization"), option.WithHeader("x-api-key", key("all")))
		x.ok(say(&c, "chat, JSON", ""))
		both := d.client(key("all"), option.WithHeader("x-api-key", key("all")))
		x.ok(say(&both, "responses, stream", ""))
		c = d.bad("unknown")
		_, err := c.Models.List(ctx)
		apiError(x, err, 401)
		_, err = c.Models.Get(ctx, "chat")
		apiError(x, err, 401)
	})
	d.each("two different keys are a 400", ways, func(x t, way string) {
		a := &attempts{}
		c := d.client(key("all"), option.WithHeader("x-api-key", key("scoped")), a.note())
		e := apiError(x, say(&c, way, ""), 400)
		x.equal(a.statuses(), []int{400})
		x.check(strings.Contains(e.Message, "x-api-key"), "%s", e.Message)
	})
	d.each("an agent out of scope is a 404, like one that is missing", ways, func(x t, way string) {
		seen := func(agent string) string {
			a := &attempts{}
			c := d.client(key("scoped"), a.note())
			e := apiError(x, say(&c, way, agent), 404)
			x.equal(a.statuses(), []int{404})
			x.equal(e.Code, "model_not_found")
			x.check(!strings.Contains(e.Message, "rationed"), "%s", e.Message)
			return sameAs(e, agent)
		}
		want := seen("nobody")
		x.equal(seen("swarms"), want)
		x.equal(seen("cycls-real"), want)
	})
	d.test("a list of models is what the key may call", func(x t) {
		c := d.client(key("scoped"))
		pager := c.Models.ListAutoPaging(ctx)
		var ids []string
		for pager.Next() {
			ids = append(ids, pager.Current().ID)
		}
		x.ok(pager.Err())
		slices.Sort(ids)
		x.equal(ids, scope)
		_, err := c.Models.Get(ctx, "swarms")
		gone := sameAs(apiError(x, err, 404), "swarms")
		_, err = c.Models.Get(ctx, "nobody")
		x.equal(sameAs(apiError(x, err, 404), "nobody"), gone)
	})
}

func (d *door) limits() {
	ctx := context.Background()
	left := func(x t, h http.Header, want string) {
		x.equal([]string{h.Get("x-ratelimit-limit-requests"), h.Get("x-ratelimit-remaining-requests")}, []string{"2", want})
		_, err := time.ParseDuration(h.Get("x-ratelimit-reset-requests"))
		x.ok(err)
		x.check(h.Get("RateLimit") != "" && h.Get("RateLimit-Policy") != "", "%v", h)
	}
	d.each("a limit of requests is a 429 before any of the answer, and what is left stands in every answer", ways, func(x t, way string) {
		c := d.client(d.fresh("few"))
		for _, want := range []string{"1", "0"} {
			var r *http.Response
			x.ok(say(&c, way, "", option.WithResponseInto(&r)))
			left(x, r.Header, want)
		}
		// Half an hour to the next of two an hour: too long for the client to try
		// again by itself.
		a := &attempts{}
		e := apiError(x, say(&c, way, "", a.note()), 429)
		x.equal(a.statuses(), []int{429})
		h := e.Response.Header
		left(x, h, "0")
		x.equal([]string{e.Type, e.Code}, []string{"rate_limit_error", "rate_limit_exceeded"})
		s, err := strconv.Atoi(h.Get("Retry-After"))
		x.ok(err)
		ms, err := strconv.Atoi(h.Get("Retry-After-Ms"))
		x.ok(err)
		x.check(1000 < s && s <= 1800 && 1000*(s-1) < ms && ms <= 1000*s, "%d s, %d ms", s, ms)
		x.check(strings.Contains(e.Message, "2 requests per hour") && strings.Contains(e.Message, h.Get("Retry-After")), "%s", e.Message)
	})
	d.each("over the limit it waits as long as it was told, and then gets its answer", ways, func(x t, way string) {
		a := &attempts{}
		c := d.client(d.fresh("paced"), a.note())
		a.untilRefused(x, 429, func() error { return say(&c, way, "") })
		x.equal(a.statuses(), []int{429, 200}) // the wait was enough
		x.equal([]string{a.all[0].count, a.all[1].count}, []string{"0", "1"})
	})
	d.test("a limit of tokens is a 429, charged with what the agent reports", func(x t) {
		c := d.client(d.fresh("tokens"), option.WithMaxRetries(0))
		remaining := func() int {
			var r *http.Response
			p := ask("scripted-chat", words)
			p.MaxCompletionTokens = openai.Int(1000)
			_, err := c.Chat.Completions.New(ctx, p, option.WithResponseInto(&r))
			x.ok(err)
			x.equal(r.Header.Get("x-ratelimit-limit-tokens"), "2000")
			_, err = time.ParseDuration(r.Header.Get("x-ratelimit-reset-tokens"))
			x.ok(err)
			n, err := strconv.Atoi(r.Header.Get("x-ratelimit-remaining-tokens"))
			x.ok(err)
			return n
		}
		first := remaining()
		second := remaining()
		x.check(0 < first && first < 1000 && first-30 < second && second < first, "%d, then %d", first, second)
		// More than the bucket holds is admitted when it is full, and so never now.
		stream := c.Responses.NewStreaming(ctx, responses.ResponseNewParams{
			Model: "scripted-responses", MaxOutputTokens: openai.Int(5000), Input: askResponses("", words).Input})
		x.check(!stream.Next(), "an event")
		x.check(strings.Contains(apiError(x, stream.Err(), 429).Message, "2000 tokens per hour"), "%v", stream.Err())
	})
	d.each("of streams at the same time one waits for its turn, and the next is a 429", []string{"chat, stream", "responses, stream"}, func(x t, way string) {
		c := d.client(d.fresh("single"), option.WithMaxRetries(0))
		name := fresh()
		running := c.Chat.Completions.NewStreaming(ctx, ask("cycls-real", "gate "+name))
		x.check(running.Next(), "%v", running.Err())
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- say(&c, way, "") }()
		}
		// There is one place in line, so that one of the two is refused, and the other
		// is known to wait.
		e := apiError(x, <-ended, 429)
		x.equal(len(ended), 0)
		x.check(strings.Contains(e.Message, "at the same time"), "%s", e.Message)
		x.check(e.Response.Header.Get("Retry-After") != "", "no Retry-After")
		x.release(name)
		for running.Next() {
		}
		x.ok(running.Err())
		x.ok(<-ended)
	})
	d.test("over the limit of concurrency it waits as long as it was told, and then gets its answer", func(x t) {
		k, name := d.fresh("single"), fresh()
		c := d.client(k)
		running := c.Chat.Completions.NewStreaming(ctx, ask("cycls-real", "gate "+name))
		x.check(running.Next(), "%v", running.Err())
		refused, ended := make(chan bool, 200), make(chan error, 2)
		seen := []*attempts{{}, {}}
		for _, a := range seen {
			a.on = func(status int) {
				if status == 429 {
					refused <- true
				}
			}
			other := d.client(k, a.note(), option.WithMaxRetries(100))
			go func() { ended <- say(&other, "chat, stream", "") }()
		}
		<-refused
		x.release(name)
		for running.Next() {
		}
		x.ok(running.Err())
		x.ok(<-ended)
		x.ok(<-ended)
		for _, a := range seen {
			a.told(x)
		}
	})
	d.each("the proxy's own ceiling is a 503, and is tried again after the wait that it told", []string{"chat, JSON", "responses, stream"}, func(x t, way string) {
		a := &attempts{}
		c := d.client(key("all"), option.WithBaseURL(d.ceiling+"/v1"), option.WithMaxRetries(100))
		a.untilRefused(x, 503, func() error { return say(&c, way, "", a.note()) })
		for range 50 {
			err := say(&c, way, "", option.WithMaxRetries(0))
			if err == nil {
				continue
			}
			e := apiError(x, err, 503)
			x.equal(e.Code, "overloaded")
			x.check(strings.Contains(e.Message, "5 requests per second"), "%s", e.Message)
			return
		}
		x.fatal("no ceiling")
	})
}
