package proxy

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/translate"
)

const batchPath = "/v1/agent/batch/completions"

// batchOf is a batch of tasks for agents, "agent: task".
func batchOf(items ...string) string {
	for i, it := range items {
		agent, task, _ := strings.Cut(it, ": ")
		items[i] = `{"agent_config":{"agent_name":"` + agent + `"},"task":"` + task + `"}`
	}
	return "[" + strings.Join(items, ",") + "]"
}

// tenOf is a full batch, whose tasks end in their numbers.
func tenOf(agent string) string {
	items := make([]string, 10)
	for i := range items {
		items[i] = agent + ": task " + strconv.Itoa(i)
	}
	return batchOf(items...)
}

// sayTask answers as a chat backend, with the task it was given.
func sayTask(v *visit) {
	v.json(200, strings.Replace(chatScript().body, "one two", gjson.GetBytes(v.body, "messages.@reverse.0.content").String(), 1))
}

// TestBatchAnswersInOrderAndEachFailsAlone has one item of each fate; the last
// that is asked is the first to be answered.
func TestBatchAnswersInOrderAndEachFailsAlone(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	good := stage(t, func(v *visit) {
		if strings.Contains(string(v.body), "slow") {
			<-slow
		}
		sayTask(v)
	})
	bad := stage(t, func(v *visit) { v.json(500, openAIRefusal("secret")) })
	busy := stage(t, func(v *visit) {
		v.json(429, `{"detail":"Rate limit exceeded for minute window(s)."}`, "Retry-After: 7")
		close(slow)
	})
	typed := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	own := stage(t, func(v *visit) {
		v.json(200, ` {"job_id":"agent-1","x":9007199254740993,"outputs":"mine","usage":{"input_tokens":10,"output_tokens":20}} `)
	})
	r := start(t, `
agents:
  - {name: good, protocol: chat, url: "http://`+good.addr+`", model: m}
  - {name: bad, protocol: responses, url: "http://`+bad.addr+`", model: m}
  - {name: busy, protocol: swarms, url: "http://`+busy.addr+`"}
  - {name: typed, protocol: cycls, url: "http://`+typed.addr+`"}
  - {name: own, protocol: swarms, url: "http://`+own.addr+`"}
`)
	body := strings.TrimSuffix(batchOf("good: slow", "bad: a", "nobody: b", "typed: c", "own: d", "good: quick"), "]") +
		`,{"agent_config":{"agent_name":"good","max_tokens":"many"},"task":"e"},{"task":"f"},{"agent_config":{"agent_name":"busy"},"task":"g"}]`
	got := r.post(batchPath, body, "")
	if got.status != 200 || !gjson.Valid(got.body) || got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Should-Retry") != "" {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	doc := gjson.Parse(got.body)
	if n := doc.Get("total_requests").Int(); n != 9 || len(doc.Get("results").Array()) != 9 {
		t.Fatalf("%d requests: %s", n, got.body)
	}
	for i, want := range []string{
		"true slow", "false 502 The agent failed.", `false 404 There is no agent "nobody". The agents are: good, bad, busy, typed, own.`,
		"true one two", "null mine", "true quick",
		"false 400 'agent_config.max_tokens' must be a whole number.", "false 400 'agent_config' is required.",
		"false 429 Rate limit exceeded for minute window(s). Retry after 7 s.",
	} {
		it := doc.Get("results." + strconv.Itoa(i))
		said := firstNotEmpty(it.Get("outputs.0.content").String(), it.Get("outputs").String())
		if it.Get("success").Type == gjson.False {
			said = it.Get("status_code").Raw + " " + it.Get("error").String()
			if it.Get("job_id").Raw != "null" || it.Get("outputs").Raw != "null" || it.Get("timestamp").String() == "" {
				t.Errorf("item %d: %s", i, it.Raw)
			}
		}
		if s := firstNotEmpty(it.Get("success").Raw, "null") + " " + said; s != want {
			t.Errorf("item %d: %s, want %s", i, s, want)
		}
	}
	// The answer of a Swarms backend is its own, byte by byte.
	if !strings.Contains(got.body, `{"job_id":"agent-1","x":9007199254740993,"outputs":"mine","usage":{"input_tokens":10,"output_tokens":20}}`) {
		t.Errorf("not passed through: %s", got.body)
	}
	if name := doc.Get("results.2.name").String(); name != "nobody" {
		t.Errorf("the unknown agent is called %q", name)
	}
	if a := got.header.Get("Dragoman-Agent"); a != "good, bad, typed, own, busy" {
		t.Errorf("agents: %s", a)
	}
	line := r.waitLog(1)
	for k, want := range map[string]any{
		"items": int64(9), "failed": int64(5), "outcome": "incomplete", "status": int64(200), "face": "swarms", "agent": "good, bad, typed, own, busy",
		"backend": "chat, responses, cycls, swarms", "input_tokens": int64(12), "output_tokens": int64(24),
	} {
		if line[k] != want {
			t.Errorf("logged %s=%v, want %v", k, line[k], want)
		}
	}
	if n := r.logs.FilterMessage("request").Len(); n != 1 {
		t.Errorf("%d lines", n)
	}

	// Each item counts for its agent, and no list of agents is one.
	var b strings.Builder
	r.meters.write(&b)
	text := regexp.MustCompile(`,backend="[^"]*"`).ReplaceAllString(b.String(), "") // their ports are any
	for _, want := range []string{
		`{agent="good",face="swarms",protocol="chat",status="200",outcome="completed"} 2`, `{agent="bad",face="swarms",protocol="responses",status="502",outcome="failed"} 1`,
		`{agent="",face="swarms",protocol="",status="404",outcome="failed"} 1`, `{agent="",face="swarms",protocol="",status="400",outcome="failed"} 1`,
		`{agent="good",face="swarms",protocol="chat",status="400",outcome="failed"} 1`,
	} {
		if !strings.Contains(text, "dragoman_requests_total"+want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "good, ") {
		t.Errorf("a list of agents is a label:\n%s", b.String())
	}
}

func firstNotEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestBatchRunsSideBySide answers none of ten before all have come.
func TestBatchRunsSideBySide(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	all.Add(10)
	back := stage(t, func(v *visit) {
		all.Done()
		all.Wait()
		sayTask(v)
	})
	r := start(t, agentYAML("chat", back.addr))
	// The prefix names the agent of all items.
	got := r.post("/agents/it"+batchPath, tenOf("nobody"), "")
	for i := range 10 {
		if s := gjson.Get(got.body, fmt.Sprintf("results.%d.outputs.0.content", i)).String(); s != "task "+strconv.Itoa(i) {
			t.Errorf("item %d: %q in %d %s", i, s, got.status, got.body)
		}
	}
	if line := r.waitLog(1); line["outcome"] != "completed" || line["agent"] != "it" || line["input_tokens"] != int64(10) {
		t.Errorf("logged %v", line)
	}
}

// TestBatchEnvelope pins the bytes of an answer.
func TestBatchEnvelope(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
	r := start(t, agentYAML("chat", back.addr))
	got := r.post(batchPath, `[{"agent_config":{"agent_name":"it"},"task":"a"},{"agent_config":null}]`, "").body
	const stamp, hex = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}`, `[0-9a-f]{32}`
	want := `^\{"batch_id":"agent-batch-` + hex + `","total_requests":2,"results":\[` +
		`\{"job_id":"agent-` + hex + `","success":true,"name":"it","description":null,"temperature":null,"outputs":\[\{"role":"it","content":"one two","timestamp":"` + stamp + `","message_id":"[0-9a-f-]{36}"\}\],` +
		`"usage":\{"input_tokens":1,"output_tokens":2,"total_tokens":3,"img_cost":0\.0,"total_cost":0\.0\},"timestamp":"` + stamp + `\+00:00"\},` +
		`\{"job_id":null,"success":false,"name":null,"outputs":null,"usage":null,"error":"'agent_config' is required\.","status_code":400,"timestamp":"` + stamp + `\+00:00"\}` +
		`\],"execution_time":\d+\.\d{6},"timestamp":"` + stamp + `\+00:00"\}$`
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestBatchRefusals refuses what is no batch, before anything runs.
func TestBatchRefusals(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { sayTask(v) })
	r := start(t, agentYAML("chat", back.addr))
	for _, c := range []struct{ name, body, want string }{
		{"eleven", strings.TrimSuffix(tenOf("it"), "]") + `,{}]`, "ERROR: BATCH SIZE EXCEEDED - You can only run up to 10 batch agents at a time."},
		{"none", ` [ ] `, "The batch is empty: it must hold at least one request."},
		{"an object", `{"agent_config":{},"task":"t"}`, "The body of a batch must be a JSON array of at most 10 requests, each with agent_config and task."},
		{"no object in it", strings.TrimSuffix(batchOf("it: a"), "]") + `,"b"]`, "'[1]' must be an object with agent_config and task."},
		{"no JSON", `[{]`, "The request body is not valid JSON"},
		{"a field twice", `[{"agent_config":{"agent_name":"it","agent_name":"other"},"task":"t"}]`, "The request body is not valid JSON"},
	} {
		got := r.post(batchPath, c.body, "")
		if m := detail(got.body); got.status != 400 || !strings.HasPrefix(m, c.want) {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
	c := r.dial()
	c.send("GET", batchPath, "", "")
	if got := c.reply(); got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", got.status, got.header)
	}
	if n := len(back.seen); n != 0 {
		t.Errorf("the agent was called %d times", n)
	}
}

// TestBatchAllItemsFail is still an answer: the items say what became of them.
func TestBatchAllItemsFail(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(503, openAIRefusal("later"), "Retry-After: 3") })
	r := start(t, agentYAML("chat", back.addr))
	got := r.post(batchPath, batchOf("it: a", "nobody: b"), "")
	if got.status != 200 || gjson.Get(got.body, "results.0.status_code").Int() != 503 || gjson.Get(got.body, "results.1.success").Bool() {
		t.Errorf("%d %s", got.status, got.body)
	}
	if line := r.waitLog(1); line["outcome"] != "failed" || line["failed"] != int64(2) {
		t.Errorf("logged %v", line)
	}
}

// TestBatchNamesWhatEachItemLoses tells items apart in the ledger; streaming,
// which a batch cannot give, is among the losses and is not asked for.
func TestBatchNamesWhatEachItemLoses(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if gjson.GetBytes(v.body, "stream").Bool() || gjson.GetBytes(v.body, "agent_config.streaming_on").Bool() {
			t.Errorf("a stream was asked for: %s", v.body)
		}
		if strings.Contains(string(v.body), "agent_config") {
			v.json(200, backendScripts[4].body)
			return
		}
		sayTask(v)
	})
	r := start(t, `
agents:
  - {name: chat, protocol: chat, url: "http://`+back.addr+`", model: m}
  - {name: own, protocol: swarms, url: "http://`+back.addr+`"}
`)
	body := `[{"agent_config":{"agent_name":"chat","role":"lead","made_up":1},"task":"a"},` +
		`{"agent_config":{"agent_name":"own","role":"lead","streaming_on":true},"stream":true,"task":"b"},` +
		`{"agent_config":{"agent_name":"chat","streaming_on":true,"mcp_url":"http://m"},"task":"c"},` +
		`{"agent_config":{"agent_name":"nobody","role":"lead"},"task":"d"}]`
	got := r.post(batchPath, body, "")
	const lost = "[0].agent_config.role, [0].unknown(1), [1].stream, [1].agent_config.streaming_on, [2].agent_config.streaming_on, [2].agent_config.mcp_url"
	if d := got.header.Get("Dragoman-Dropped"); got.status != 200 || d != lost {
		t.Errorf("%d dropped %q, want %q", got.status, d, lost)
	}
	for i := range 3 {
		if !gjson.Get(got.body, fmt.Sprintf("results.%d.success", i)).Bool() {
			t.Errorf("item %d: %s", i, got.body)
		}
	}
	if line := r.waitLog(1); fmt.Sprint(line["dropped"]) != "["+strings.ReplaceAll(lost, ",", "")+"]" {
		t.Errorf("logged %v", line["dropped"])
	}

	// In strict mode none of them runs.
	for len(back.seen) > 0 {
		<-back.seen
	}
	got = r.post(batchPath, body, "Dragoman-Strict: true\r\n")
	want := "Nothing of the batch has run. These cannot be carried to chat (protocol chat), own (protocol swarms): " + lost + "."
	if got.status != 400 || detail(got.body) != want || got.header.Get("X-Should-Retry") != "" {
		t.Errorf("%d %v\ngot  %s\nwant %s", got.status, got.header, detail(got.body), want)
	}
	if n := len(back.seen); n != 0 {
		t.Errorf("the agent was called %d times", n)
	}
}

// TestBatchHeaders gives each item's agent the client's headers, with an
// idempotency key of its own.
func TestBatchHeaders(t *testing.T) {
	t.Parallel()
	back := stage(t, sayTask)
	r := start(t, agentYAML("chat", back.addr))
	r.post(batchPath, tenOf("it"), "Traceparent: 00-1\r\nIdempotency-Key: k\r\nX-Api-Key: secret\r\nX-Request-Id: mine\r\n")
	keys := map[string]bool{}
	for range 10 {
		v := <-back.seen
		h := v.req.Header
		task := gjson.GetBytes(v.body, "messages.0.content").String()
		if want := "k-" + strings.TrimPrefix(task, "task "); h.Get("Idempotency-Key") != want {
			t.Errorf("%s has the key %q, want %q", task, h.Get("Idempotency-Key"), want)
		}
		keys[h.Get("Idempotency-Key")] = true
		if h.Get("Traceparent") != "00-1" || h.Get("X-Api-Key") != "" || h.Get("X-Request-Id") != "mine" || h.Get("Accept") != "application/json" {
			t.Errorf("%v", h)
		}
	}
	if len(keys) != 10 {
		t.Errorf("keys: %v", keys)
	}
}

// TestBatchDepartureCancelsAll has the client leave while ten agents think.
func TestBatchDepartureCancelsAll(t *testing.T) {
	t.Parallel()
	var arrived, left sync.WaitGroup
	arrived.Add(10)
	left.Add(10)
	back := stage(t, func(v *visit) {
		if strings.HasSuffix(gjson.GetBytes(v.body, "messages.0.content").String(), "3") { // one has begun to speak
			v.open()
			v.chunk(chatScript().first)
		}
		arrived.Done()
		v.gone()
		left.Done()
	})
	r := start(t, agentYAML("chat", back.addr))
	c := r.dial()
	c.send("POST", batchPath, tenOf("it"), "")
	arrived.Wait()
	_ = c.Close()
	left.Wait()
	if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
		t.Errorf("logged %v", line)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) != 0 {
		t.Errorf("%d calls are still running", len(r.running))
	}
}

// TestBatchInShutdown is told which of its items were cut.
func TestBatchInShutdown(t *testing.T) {
	t.Parallel()
	var arrived sync.WaitGroup
	arrived.Add(2)
	quick := make(chan struct{})
	back := stage(t, func(v *visit) {
		arrived.Done()
		if strings.Contains(string(v.body), "quick") {
			<-quick
			sayTask(v)
			return
		}
		v.gone()
	})
	r := start(t, agentYAML("chat", back.addr))
	c := r.dial()
	c.send("POST", batchPath, batchOf("it: quick", "it: long"), "")
	arrived.Wait()
	r.mu.Lock()
	if n := len(r.running); n != 3 { // the batch and its items
		t.Errorf("%d calls are running", n)
	}
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	down := make(chan error)
	go func() { down <- r.Shutdown(ctx) }()
	close(quick)
	waitFor(t, "the end of the quick item", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.running) == 2
	})
	cancel()
	got := c.reply()
	if gjson.Get(got.body, "results.0.outputs.0.content").String() != "quick" || gjson.Get(got.body, "results.1.error").String() != "The proxy is shutting down. Retry after 1 s." {
		t.Errorf("%d %s", got.status, got.body)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// explosive is a backend's protocol that panics.
type explosive struct{ translate.Backend }

func (explosive) EncodeRequest(dst []byte, r *translate.Request, a *translate.Agent, stream bool) ([]byte, *translate.Error) {
	if r.Agent == "early" {
		panic("early")
	}
	return append(dst, "{}"...), nil
}

func (explosive) NewDecoder(*translate.Setup) translate.Decoder { panic("late") }

// TestBatchSurvivesAPanicInAnItem answers the items beside it.
func TestBatchSurvivesAPanicInAnItem(t *testing.T) {
	t.Parallel()
	back := stage(t, sayTask)
	r := start(t, agentYAML("chat", back.addr)+"  - {name: late, aliases: [early], protocol: chat, url: \"http://"+back.addr+"\"}\n")
	chat := translate.Lookup("chat")
	r.snapshot().agents[&r.snapshot().conf.Agents[1]].protocol = &translate.Protocol{Name: "chat", Backend: explosive{chat.Backend}}
	got := r.post(batchPath, batchOf("early: a", "it: b", "late: c"), "")
	doc := gjson.Parse(got.body)
	for i, want := range []string{"false The proxy failed.", "true b", "false The proxy failed."} {
		it := doc.Get("results." + strconv.Itoa(i))
		if s := it.Get("success").Raw + " " + it.Get("error").String() + it.Get("outputs.0.content").String(); s != want {
			t.Errorf("item %d: %s, want %s", i, s, want)
		}
	}
	if n := r.logs.FilterMessage("panic").Len(); n != 2 {
		t.Errorf("%d panics were logged", n)
	}
	r.waitLog(1)
	r.logs.TakeAll() // they were asked for
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) != 0 {
		t.Error("an item still runs")
	}
}
