package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/state"
)

// thinking is an agent that answers when its gate opens.
func thinking(t *testing.T, protocol string) (*stagedAgent, chan struct{}) {
	t.Helper()
	gate := make(chan struct{})
	return stage(t, func(v *visit) {
		<-gate
		v.tell(protocol, "the answer")
	}), gate
}

// later asks for an answer in the background.
func (r *running) later(members string, headers ...string) gjson.Result {
	r.t.Helper()
	got := r.request("POST", "/v1/responses", `{"model":"it","background":true,`+members+`}`, headers...)
	if got.status != 200 {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
	return gjson.Parse(got.body)
}

// fetch is what has become of an answer by now.
func (r *running) fetch(id string, headers ...string) gjson.Result {
	r.t.Helper()
	got := r.request("GET", "/v1/responses/"+id, "", headers...)
	if got.status != 200 {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
	return gjson.Parse(got.body)
}

// poll fetches an answer until it has a status.
func (r *running) poll(id, status string) gjson.Result {
	r.t.Helper()
	for end := time.Now().Add(longest); ; {
		resp := r.fetch(id)
		if resp.Get("status").String() == status {
			return resp
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s is not to come: %s", status, resp)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // as clients do
	}
}

// TestAnswersOutliveTheirRequests: the client is answered at once, and fetches later what became of it.
func TestAnswersOutliveTheirRequests(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"chat", "responses", "cycls", "cognipeer", "swarms", "ticos"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b, gate := thinking(t, protocol)
			r := start(t, keepingYAML(protocol, b.addr))
			first := r.later(`"input":"hello"`)
			id := first.Get("id").String()
			if first.Get("status").String() != "queued" || !first.Get("background").Bool() || !first.Get("store").Bool() || first.Get("output.#").Int() != 0 {
				t.Errorf("got %s", first)
			}
			if asked := b.asked(); strings.Contains(asked, "background\":true") {
				t.Errorf("asked %s", asked)
			}
			if s := r.fetch(id).Get("status").String(); s != "in_progress" {
				t.Errorf("got %s", s)
			}
			r.refuses(`"input":"on"`+previous(id), 400, "previous_response_not_found") // not yet
			close(gate)
			whole := r.poll(id, "completed")
			if !strings.Contains(whole.Get("output").Raw, "the answer") || !whole.Get("background").Bool() || whole.Get("id").String() != id {
				t.Errorf("got %s", whole)
			}
			r.respond(`"input":"on"` + previous(id))
			if got := r.request("GET", "/v1/responses/"+id+"?stream=true", ""); got.status != 400 {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// TestStreamsAreResumed behind every event, while they run and when they are over, by several readers.
func TestStreamsAreResumed(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"chat", "responses", "cognipeer"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b, gate := thinking(t, protocol)
			r := start(t, keepingYAML(protocol, b.addr))
			c := r.dial()
			c.send("POST", "/v1/responses", `{"model":"it","background":true,"stream":true,"input":"hello"}`, "")
			resp := c.response()
			head := until(t, resp.Body, `"type":"response.queued"`)
			id := gjson.Get(strings.TrimPrefix(strings.SplitN(head, "\n", 3)[1], "data: "), "response.id").String()
			if resp.StatusCode != 200 || !order(head, `"type":"response.created","sequence_number":0`, `"status":"queued"`) {
				t.Fatalf("%d %s", resp.StatusCode, head)
			}
			_ = c.Close() // it leaves
			live := make(chan string, 3)
			for i := range 3 {
				go func() {
					live <- r.request("GET", fmt.Sprintf("/v1/responses/%s?stream=true&starting_after=%d", id, i), "").body
				}()
			}
			b.asked()
			close(gate)
			r.poll(id, "completed")
			all := r.request("GET", "/v1/responses/"+id+"?stream=true", "").body
			if !order(all, `"type":"response.created","sequence_number":0`, `"type":"response.queued","sequence_number":1`, `"type":"response.in_progress","sequence_number":2`, "the answer", `"type":"response.completed"`, "data: [DONE]\n\n") {
				t.Errorf("got %s", all)
			}
			frames := strings.SplitAfter(all, "\n\n")
			tail := func(from int) string { return strings.Join(frames[from:], "") }
			for range 3 {
				got := <-live
				if got != tail(1) && got != tail(2) && got != tail(3) {
					t.Errorf("a live reader got %s", got)
				}
			}
			n := 0
			for i := range frames {
				if !strings.Contains(frames[i], "sequence_number") {
					break
				}
				n++
				if got := r.request("GET", fmt.Sprintf("/v1/responses/%s?stream=true&starting_after=%d", id, i), "").body; got != tail(i+1) && !(i == n-1 && strings.Trim(got, "\n") == strings.Trim(tail(i+1), "\n")) && i < len(frames)-3 {
					t.Errorf("behind %d: got %s\nwant %s", i, got, tail(i+1))
				}
			}
			if n < 5 {
				t.Errorf("%d events", n)
			}
			if got := r.request("GET", "/v1/responses/"+id+"?stream=true&starting_after=x", ""); got.status != 400 {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// TestRunsAreCancelled: before the agent has said anything, and a second time, which changes nothing.
func TestRunsAreCancelled(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.gone() })
	r := start(t, keepingYAML("chat", b.addr))
	id := r.later(`"input":"hello","stream":false`).Get("id").String()
	b.asked()
	for range 2 {
		got := r.request("POST", "/v1/responses/"+id+"/cancel", "")
		if got.status != 200 || gjson.Get(got.body, "status").String() != "cancelled" || gjson.Get(got.body, "error").Type != gjson.Null {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	r.refuses(`"input":"on"`+previous(id), 400, "previous_response_not_found")
	if got := r.fetch(id).Get("status").String(); got != "cancelled" {
		t.Errorf("got %s", got)
	}
}

// TestRunsFailWithTheTruth, which can be fetched, and not gone on from.
func TestRunsFailWithTheTruth(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 40_000)
	for name, f := range map[string]struct {
		serve func(v *visit)
		more  string
		code  string
	}{
		"early": {func(v *visit) { v.json(500, `{"error":{"message":"no"}}`) }, "", "bad_gateway"},
		"cut": {func(v *visit) {
			v.open()
			v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"half"},"finish_reason":null}]}` + "\n\n")
			v.hangs = true
		}, "", "stream_truncated"},
		"too long": {func(v *visit) {
			v.open()
			for range 4 {
				v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"` + big + `"},"finish_reason":null}]}` + "\n\n")
			}
			v.gone()
		}, "state: {store: memory, background: {max_events: 64KiB}}\n", "answer_too_long"},
		"too slow": {func(v *visit) { v.gone() }, "state: {store: memory, background: {timeout: 1s}}\n", "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := stage(t, f.serve)
			yaml := f.more
			if yaml == "" {
				yaml = "state: {store: memory}\n"
			}
			r := start(t, yaml+agentYAML("chat", b.addr, "retry: {attempts: 0}"))
			id := r.later(`"input":"hello","stream":false`).Get("id").String()
			resp := r.poll(id, "failed")
			if got := resp.Get("error.code").String(); got != f.code {
				t.Errorf("got %s", resp)
			}
			r.refuses(`"input":"on"`+previous(id), 400, "previous_response_not_found")
		})
	}
}

// TestARunThatDiedWithItsProxy has failed, says the next one over the same store.
func TestARunThatDiedWithItsProxy(t *testing.T) {
	t.Parallel()
	b, gate := thinking(t, "chat")
	defer close(gate)
	one := start(t, keepingYAML("chat", b.addr))
	two := start(t, keepingYAML("chat", b.addr), func(s *Server) { s.state = unclosed{one.state} })
	c := one.dial()
	c.send("POST", "/v1/responses", `{"model":"it","background":true,"stream":true,"input":"hello"}`, "")
	head := until(t, c.response().Body, `"type":"response.queued"`)
	id := gjson.Get(strings.TrimPrefix(strings.SplitN(head, "\n", 3)[1], "data: "), "response.id").String()
	b.asked()
	if s := two.fetch(id).Get("status").String(); s != "in_progress" { // somebody else's
		t.Errorf("got %s", s)
	}
	// As if it had died: its lease is over.
	conv, name, _ := splitID(id)
	holder, err := one.state.Leased(context.Background(), "", "run-"+conv+name)
	if err != nil || holder == "" {
		t.Fatalf("%q %v", holder, err)
	}
	if err := one.state.Release(context.Background(), "", "run-"+conv+name, holder); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if resp := two.fetch(id); resp.Get("status").String() != "failed" || resp.Get("error.code").String() != "server_error" {
			t.Errorf("got %s", resp)
		}
	}
	if got := two.request("GET", "/v1/responses/"+id+"?stream=true&starting_after=4", ""); !order(got.body, `"type":"response.failed","sequence_number":5`, "[DONE]") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestARunOfAnotherProxyIsCancelled through the store that they share.
func TestARunOfAnotherProxyIsCancelled(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.gone() })
	one := start(t, keepingYAML("chat", b.addr))
	two := start(t, keepingYAML("chat", b.addr), func(s *Server) { s.state = unclosed{one.state} })
	id := one.later(`"input":"hello"`).Get("id").String()
	b.asked()
	if got := two.request("POST", "/v1/responses/"+id+"/cancel", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	two.poll(id, "cancelled")
}

// TestRunsAreCounted: by the proxy, and as requests at the same time by their key, until they end.
func TestRunsAreCounted(t *testing.T) {
	t.Parallel()
	b, gate := thinking(t, "chat")
	r := start(t, "state: {store: memory, background: {concurrent: 2}}\nlimits: {global: {concurrent: 3}, queue: {wait: 0s}}\n"+agentYAML("chat", b.addr))
	var ids []string
	for range 2 {
		ids = append(ids, r.later(`"input":"hello"`).Get("id").String())
		b.asked()
	}
	if got := r.request("POST", "/v1/responses", `{"model":"it","background":true,"input":"hello"}`); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := r.state.Stats().Conversations; n != 2 {
		t.Errorf("%d conversations", n)
	}
	third := make(chan reply, 1)
	go func() { third <- r.post("/v1/responses", `{"model":"it","input":"hello","store":false}`, "") }()
	b.asked()
	if got := r.post("/v1/responses", `{"model":"it","input":"hello","store":false}`, ""); got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
	close(gate)
	for _, id := range ids {
		r.poll(id, "completed")
	}
	<-third
	for end := time.Now().Add(longest); r.runs.count() > 0; {
		if time.Now().After(end) {
			t.Fatal("runs are left")
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // polls for what has no channel
	}
	for range 4 {
		r.respond(`"input":"hello"`)
	}
}

// TestADrainEndsRuns with the truth, which the next process can tell.
func TestADrainEndsRuns(t *testing.T) {
	t.Parallel()
	b, gate := thinking(t, "chat")
	defer close(gate)
	other := start(t, keepingYAML("chat", b.addr))
	r := start(t, keepingYAML("chat", b.addr), func(s *Server) { s.state = unclosed{other.state} })
	id := r.later(`"input":"hello"`).Get("id").String()
	b.asked()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if resp := other.fetch(id); resp.Get("status").String() != "failed" || resp.Get("error.code").String() != "shutting_down" {
		t.Errorf("got %s", resp)
	}
}

// TestARunFallsBack to another agent, which is told all of it.
func TestARunFallsBack(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, "state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: responses, url: \"http://"+deadAddr(t)+"\", model: m, fallback: [other]}\n  - {name: other, protocol: chat, url: \"http://"+b.addr+"\", model: m}\n")
	first := r.poll(r.later(`"input":"one"`).Get("id").String(), "completed").Get("id").String()
	b.asked()
	second := r.poll(r.later(`"input":"two"`+previous(first)).Get("id").String(), "completed")
	if asked := b.asked(); !order(asked, "one", "answer 1", "two") || !gjson.Get(asked, "stream").Bool() || !strings.Contains(second.Raw, "answer 2") {
		t.Errorf("asked %s, got %s", asked, second)
	}
}

// TestFollowersOfARunAreToldOfADrain before they are let go.
func TestFollowersOfARunAreToldOfADrain(t *testing.T) {
	t.Parallel()
	b, gate := thinking(t, "chat")
	defer close(gate)
	r := start(t, keepingYAML("chat", b.addr))
	c := r.dial()
	c.send("POST", "/v1/responses", `{"model":"it","background":true,"stream":true,"input":"hello"}`, "")
	body := c.response().Body
	until(t, body, `"type":"response.queued"`)
	b.asked()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := until(t, body, "[DONE]"); !order(got, "response.failed", "shutting_down") {
		t.Errorf("got %s", got)
	}
}

// sharing is a second proxy over the same store, which looks often; so does the first one.
func sharing(t *testing.T, yaml string, first func(state.Store) state.Store) (one, two *running) {
	t.Helper()
	often := func(s *Server) { s.share = time.Millisecond }
	one = start(t, yaml, often, func(s *Server) { s.state = first(s.state) })
	return one, start(t, yaml, often, func(s *Server) { s.state = unclosed{one.state} })
}

func asIs(s state.Store) state.Store { return s }

// halting is an agent that says a part, and the rest when its gate opens.
func halting(t *testing.T) (*stagedAgent, chan struct{}) {
	t.Helper()
	gate := make(chan struct{})
	return stage(t, func(v *visit) {
		script := chatScript()
		v.open()
		v.chunk(script.first)
		<-gate
		v.chunk(script.rest)
		v.end()
	}), gate
}

// streamLater asks for an answer in the background with a stream, and leaves behind the first part.
func (r *running) streamLater() (id string) {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	c.send("POST", "/v1/responses", `{"model":"it","background":true,"stream":true,"input":"hello"}`, "")
	head := until(r.t, c.response().Body, `"response.output_text.delta"`)
	return gjson.Get(strings.TrimPrefix(strings.SplitN(head, "\n", 3)[1], "data: "), "response.id").String()
}

// TestRunsAreFollowedElsewhere: a proxy that shares the store tells the events of another one's run as they come, each once,
// and the same when it has ended.
func TestRunsAreFollowedElsewhere(t *testing.T) {
	t.Parallel()
	b, gate := halting(t)
	one, two := sharing(t, keepingYAML("chat", b.addr), asIs)
	id := one.streamLater()
	var readers [3]io.Reader
	var heard [3]string
	for i := range readers {
		c := two.dial()
		c.send("GET", fmt.Sprintf("/v1/responses/%s?stream=true&starting_after=%d", id, i), "", "")
		readers[i] = c.response().Body
		heard[i] = until(t, readers[i], `"response.output_text.delta"`)
	}
	close(gate)
	for i := range readers {
		heard[i] += until(t, readers[i], "[DONE]\n\n")
	}
	two.poll(id, "completed")
	for _, r := range []*running{one, two} {
		all := r.request("GET", "/v1/responses/"+id+"?stream=true", "").body
		if !order(all, `"type":"response.created","sequence_number":0`, "one", "two", `"type":"response.completed"`, "data: [DONE]\n\n") {
			t.Errorf("got %s", all)
		}
		frames := strings.SplitAfter(all, "\n\n")
		for i := range heard {
			if want := strings.Join(frames[i+1:], ""); heard[i] != want {
				t.Errorf("behind %d: heard %s\nwant %s", i, heard[i], want)
			}
		}
	}
	if got := two.request("DELETE", "/v1/responses/"+id, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := one.state.Stats(); got.Bytes != 0 || got.Conversations != 0 {
		t.Errorf("left: %+v", got)
	}
}

// TestEventsInDoubtAreToldOnce: while nobody knows whether what was kept of a run has been kept, more is said.
func TestEventsInDoubtAreToldOnce(t *testing.T) {
	t.Parallel()
	script := chatScript()
	gates := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	b := stage(t, func(v *visit) {
		v.open()
		v.chunk(script.first)
		<-gates[0]
		v.chunk(strings.Replace(script.first, "one", " and more", 1))
		<-gates[1]
		v.chunk(script.rest)
		v.end()
	})
	store := &doubtful{}
	store.doubts.Store(true)
	one, two := sharing(t, keepingYAML("chat", b.addr), func(s state.Store) state.Store {
		store.Store = s
		return store
	})
	id := one.streamLater()
	follow := func(r *running) io.Reader {
		c := r.dial()
		c.send("GET", "/v1/responses/"+id+"?stream=true", "", "")
		return c.response().Body
	}
	here, there := follow(one), follow(two)
	told := until(t, there, "response.created")
	close(gates[0])
	until(t, here, "and more")
	n := store.n.Load()
	waitFor(t, "what is there to be tried", func() bool { return store.n.Load() >= n+3 })
	store.doubts.Store(false)
	close(gates[1])
	told += until(t, there, "[DONE]\n\n")
	if want := one.request("GET", "/v1/responses/"+id+"?stream=true", "").body; told != want || !order(told, "one", "and more", "two", "response.completed") {
		t.Errorf("told %s\nwant %s", told, want)
	}
}

// doubtful changes the events of runs, and says for a while that this failed.
type doubtful struct {
	state.Store
	doubts atomic.Bool
	n      atomic.Int64
}

func (d *doubtful) Save(ctx context.Context, owner string, c state.Change) error {
	err := d.Store.Save(ctx, owner, c)
	if len(c.Need) > 0 && len(c.Put) > 0 && strings.HasPrefix(c.Put[0].Name, "events-") && d.doubts.Load() {
		d.n.Add(1)
		return errors.New("the answer was lost")
	}
	return err
}

// TestEndsAreNotToldTooEarly: what has become of an answer is known before its last events are.
func TestEndsAreNotToldTooEarly(t *testing.T) {
	t.Parallel()
	b, gate := halting(t)
	slow := &holding{gate: make(chan struct{})}
	one, two := sharing(t, keepingYAML("chat", b.addr), func(s state.Store) state.Store {
		slow.Store = s
		return slow
	})
	id := one.streamLater()
	close(gate)
	two.poll(id, "completed")
	c := two.dial()
	c.send("GET", "/v1/responses/"+id+"?stream=true", "", "")
	body := c.response().Body
	waitFor(t, "a look whether somebody is at work", func() bool { return slow.leased.Load() >= 3 })
	close(slow.gate)
	told := until(t, body, "[DONE]\n\n")
	if want := one.request("GET", "/v1/responses/"+id+"?stream=true", "").body; told != want || !order(told, "one", "two", "response.completed") {
		t.Errorf("told %s\nwant %s", told, want)
	}
}

// holding holds back the last events of runs.
type holding struct {
	state.Store
	gate   chan struct{}
	leased atomic.Int64
}

func (h *holding) Save(ctx context.Context, owner string, c state.Change) error {
	if len(c.Put) > 0 && strings.HasPrefix(c.Put[0].Name, "events-") && strings.Contains(string(c.Put[0].Value), "[DONE]") {
		<-h.gate
	}
	return h.Store.Save(ctx, owner, c)
}

func (h *holding) Leased(ctx context.Context, owner, name string) (string, error) {
	h.leased.Add(1)
	return h.Store.Leased(ctx, owner, name)
}

// TestFollowersElsewhereAreToldTheTruth of a run whose proxy died, of one that was deleted, and of a drain; and they may leave.
func TestFollowersElsewhereAreToldTheTruth(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		happens func(one, two *running, id string)
		want    []string
	}{
		"died": {func(one, _ *running, id string) {
			conv, name, _ := splitID(id)
			holder, err := one.state.Leased(context.Background(), "", "run-"+conv+name)
			if err == nil {
				err = one.state.Release(context.Background(), "", "run-"+conv+name, holder)
			}
			if err != nil {
				t.Error(err)
			}
		}, []string{`"type":"response.failed","sequence_number":`, `"code":"server_error"`, "[DONE]"}},
		"deleted": {func(_, two *running, id string) {
			if got := two.request("DELETE", "/v1/responses/"+id, ""); got.status != 200 {
				t.Errorf("%d %s", got.status, got.body)
			}
		}, []string{`event: error`, `"type":"error","sequence_number":`, "not found", "[DONE]"}},
		"drained": {func(_, two *running, _ string) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := two.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}, []string{`event: error`, `"type":"error","sequence_number":`, `"code":"shutting_down"`, "[DONE]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gate := halting(t)
			defer close(gate)
			one, two := sharing(t, keepingYAML("chat", b.addr), asIs)
			id := one.streamLater()
			c := two.dial()
			c.send("GET", "/v1/responses/"+id+"?stream=true", "", "")
			body := c.response().Body
			head := until(t, body, `"response.output_text.delta"`)
			tt.happens(one, two, id)
			got := head + until(t, body, "[DONE]")
			if !order(got, append([]string{`"type":"response.created","sequence_number":0`, "response.output_text.delta"}, tt.want...)...) {
				t.Errorf("got %s", got)
			}
			for i, frame := range strings.Split(got, "\n\n") { // numbered without a gap
				if _, data, ok := strings.Cut(frame, "data: {"); ok && gjson.Get("{"+data, "sequence_number").Int() != int64(i) {
					t.Errorf("%d: %s", i, frame)
				}
			}
		})
	}
	b, gate := halting(t)
	defer close(gate)
	one, two := sharing(t, keepingYAML("chat", b.addr), asIs)
	id := one.streamLater()
	c := two.dial()
	c.send("GET", "/v1/responses/"+id+"?stream=true", "", "")
	until(t, c.response().Body, `"response.output_text.delta"`)
	_ = c.Close()
	if line := two.waitLog(1); fmt.Sprint(line["outcome"]) != "client_gone" {
		t.Errorf("logged %v", line)
	}
	if s := two.fetch(id).Get("status").String(); s != "in_progress" {
		t.Errorf("the run is %s", s)
	}
}

// TestADeletedRunEnds wherever it is, when nobody follows it.
func TestADeletedRunEnds(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	b := stage(t, func(v *visit) {
		v.gone()
		close(gone)
	})
	one, two := sharing(t, keepingYAML("chat", b.addr), asIs)
	id := one.later(`"input":"hello"`).Get("id").String()
	b.asked()
	if got := two.request("DELETE", "/v1/responses/"+id, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	select {
	case <-gone:
	case <-time.After(longest):
		t.Error("the agent is still asked")
	}
}
