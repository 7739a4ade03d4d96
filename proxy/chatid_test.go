package proxy

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/translate"
)

// say is a Cycls client that sends its newest message alone.
func (r *running) say(query, text string, headers ...string) reply {
	r.t.Helper()
	return r.request("POST", "/chat"+query, `{"messages":[{"role":"user","content":`+quoteJSON(text)+`}]}`, headers...)
}

func quoteJSON(s string) string { return fmt.Sprintf("%q", s) }

// TestTheWebClientOfCyclsGoesOn: with its newest message alone and an id, over every backend, five turns.
func TestTheWebClientOfCyclsGoesOn(t *testing.T) {
	t.Parallel()
	for _, p := range translate.Protocols() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			b := telling(t, p.Name)
			r := start(t, keepingYAML(p.Name, b.addr))
			query, first := "", ""
			for turn := 1; turn <= 5; turn++ {
				got := r.say(query, fmt.Sprintf("question %d", turn))
				head, _, _ := strings.Cut(got.body, "\n")
				id := gjson.Get(strings.TrimPrefix(head, "data: "), "chat_id").String()
				if got.status != 200 || len(id) != 36 || first != "" && id != first || strings.Count(got.body, "chat_id") != 2 ||
					!strings.Contains(got.body, fmt.Sprintf("answer %d", turn)) || !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
					t.Fatalf("turn %d: %d %s", turn, got.status, got.body)
				}
				first, query = id, "?id="+id
				visit := <-b.seen
				asked := string(visit.body)
				if p.Name == "swarms" { // says the newest first
					a, z, _ := strings.Cut(asked, `"history"`)
					asked = z + a
				}
				var want []string
				for i := 1; i < turn && p.Name != "cognipeer"; i++ { // which goes on in a conversation of its own
					want = append(want, fmt.Sprintf("question %d", i), fmt.Sprintf("answer %d", i))
				}
				if !order(asked, append(want, fmt.Sprintf("question %d", turn))...) || strings.Contains(visit.req.URL.RawQuery, "id=") {
					t.Fatalf("turn %d: asked %s %s", turn, visit.req.URL, asked)
				}
			}
		})
	}
}

// TestChatIDsAreTheClientsOwn: any text, for each owner another conversation.
func TestChatIDsAreTheClientsOwn(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, twoOwners+keepingYAML("chat", b.addr))
	for _, id := range []string{"c9", "ä/ö ?&=%00", strings.Repeat("x", 3000)} {
		query := "?id=" + url.QueryEscape(id)
		if got := r.say(query, "mine", asAnn); got.status != 200 || gjson.Get(strings.TrimPrefix(strings.SplitN(got.body, "\n", 2)[0], "data: "), "chat_id").String() != id {
			t.Fatalf("%d %s", got.status, got.body)
		}
		b.asked()
		if got := r.say(query, "theirs", asBob); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if asked := b.asked(); strings.Contains(asked, "mine") {
			t.Errorf("bob's agent heard %s", asked)
		}
		r.say(query, "again", asAnn)
		if asked := b.asked(); !order(asked, "mine", "again") || strings.Contains(asked, "theirs") {
			t.Errorf("ann's agent heard %s", asked)
		}
	}
}

// TestALongerListWins over what was kept, and is what the next message goes on from. So do the forms of older clients.
func TestALongerListWins(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	r.say("?id=a", "forgotten")
	b.asked()
	got := r.request("POST", "/chat?id=a", `{"messages":[{"role":"user","content":"one"},{"role":"assistant","parts":[{"type":"text","text":"two"}]},{"role":"user","content":"three"}]}`)
	if asked := b.asked(); got.status != 200 || strings.Contains(asked, "forgotten") || !order(asked, "one", "two", "three") {
		t.Errorf("%d, asked %s", got.status, asked)
	}
	r.say("?id=a", "four")
	if asked := b.asked(); strings.Contains(asked, "forgotten") || !order(asked, "one", "two", "three", "answer 2", "four") {
		t.Errorf("asked %s", asked)
	}
	// .119 to .126: the id stands in the body, and is announced in their words.
	got = r.request("POST", "/", `{"session_id":"s1","messages":[{"role":"user","content":"one"}]}`)
	if asked := b.asked(); !strings.HasPrefix(got.body, `data: {"type": "session_id", "session_id": "s1"}`+"\n\n") {
		t.Errorf("asked %s, answered %s", asked, got.body)
	}
	r.request("POST", "/", `{"session_id":"s1","messages":[{"role":"user","content":"two"}]}`)
	if asked := b.asked(); !order(asked, "one", "answer 4", "two") {
		t.Errorf("asked %s", asked)
	}
	// .116 to .118: it stands in the second message.
	r.request("POST", "/", `{"messages":[{"role":"user","content":"three"},{"role":"assistant","parts":[{"type":"session_id","session_id":"s1"}]}]}`)
	if asked := b.asked(); !order(asked, "one", "answer 4", "two", "answer 5", "three") {
		t.Errorf("asked %s", asked)
	}
}

// TestWhatAgentsShowedSurvives: code, tables and callouts are kept as the web client would keep them.
func TestWhatAgentsShowedSurvives(t *testing.T) {
	t.Parallel()
	n := 0
	b := stage(t, func(v *visit) {
		v.open()
		if n++; n == 1 {
			v.chunk(`data: {"type": "chat_id", "chat_id": "the backend's own"}` + "\n\n" + `data: {"type": "text", "text": "Look: "}` + "\n\n" + `data: {"type": "code", "code": "x = 1", "language": "python"}` + "\n\n" +
				`data: {"type": "table", "headers": ["a"]}` + "\n\n" + `data: {"type": "table", "row": ["1"]}` + "\n\n" + `data: {"type": "callout", "callout": "Mind!", "style": "warning"}` + "\n\n")
		}
		v.chunk("data: [DONE]\n\n")
		v.end()
	})
	r := start(t, keepingYAML("cycls", b.addr))
	got := r.say("?id=a", "show")
	if !strings.HasPrefix(got.body, `data: {"type": "chat_id", "chat_id": "a"}`+"\n\n") || strings.Contains(got.body, "the backend's own") || !strings.Contains(got.body, `data: {"type": "code", "code": "x = 1", "language": "python"}`) {
		t.Errorf("got %s", got.body)
	}
	b.asked()
	r.say("?id=a", "again")
	parts := gjson.Get(b.asked(), "messages.1.parts")
	if parts.Get("0.text").String() != "Look: " || parts.Get("1.code").String() != "x = 1" || parts.Get("1.language").String() != "python" || parts.Get("2.rows.0.0").String() != "1" || parts.Get("3.style").String() != "warning" {
		t.Errorf("got %s", parts)
	}
}

// TestABusyChatIsRefused as the vendor's server refuses it, until its turn is over.
func TestABusyChatIsRefused(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := stage(t, func(v *visit) {
		<-gate
		v.tell("chat", "answer")
	})
	r := start(t, keepingYAML("chat", b.addr))
	done := make(chan reply, 1)
	go func() { done <- r.say("?id=c9", "first") }()
	b.asked()
	got := r.say("?id=c9", "second")
	if want := `{"error":"run_in_progress","chat_id":"c9","detail":"This chat is still working on your last message."}`; got.status != 409 || got.body != want || got.header.Get("Retry-After") != "2" {
		t.Errorf("%d %s %s", got.status, got.header, got.body)
	}
	close(gate)
	<-done
	if got := r.say("?id=c9", "second"); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if asked := b.asked(); !order(asked, "first", "answer", "second") {
		t.Errorf("asked %s", asked)
	}
}

// TestFailedTurnsOfAChatAreForgotten, the client's message included, and free the chat.
func TestFailedTurnsOfAChatAreForgotten(t *testing.T) {
	t.Parallel()
	n := 0
	b := stage(t, func(v *visit) {
		if n++; n == 2 {
			v.open()
			v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"half"},"finish_reason":null}]}` + "\n\n")
			v.hangs = true
			return
		}
		v.tell("chat", fmt.Sprintf("answer %d", n))
	})
	r := start(t, keepingYAML("chat", b.addr))
	for i, text := range []string{"first", "second", "third"} {
		got := r.say("?id=a", text)
		if failed := strings.Contains(got.body, "error_id"); got.status != 200 || failed != (i == 1) {
			t.Errorf("%d %s", got.status, got.body)
		}
		if asked := b.asked(); i == 2 && (!order(asked, "first", "answer 1", "third") || strings.Contains(asked, "second") || strings.Contains(asked, "half")) {
			t.Errorf("asked %s", asked)
		}
	}
}

// cognipeer asks the Cognipeer face.
func (r *running) cognipeer(members string, headers ...string) reply {
	r.t.Helper()
	return r.request("POST", "/api/client/v1/agents/responses", `{"model":"it",`+members+`}`, headers...)
}

// TestCognipeerIDsNameConversations: the id is the same on every turn, whichever answer the client has in mind it
// goes on at the end.
func TestCognipeerIDsNameConversations(t *testing.T) {
	t.Parallel()
	for _, p := range translate.Protocols() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			b := telling(t, p.Name)
			r := start(t, keepingYAML(p.Name, b.addr))
			id := ""
			for turn := 1; turn <= 5; turn++ {
				members := fmt.Sprintf(`"input":"question %d","stream":%v`, turn, turn%2 == 0)
				if id != "" {
					members += `,"previous_response_id":"` + id + `"`
				}
				got := r.cognipeer(members)
				resp := got.response()
				if got.status != 200 || !strings.HasPrefix(resp.Get("id").String(), "resp_") || len(resp.Get("id").String()) != 37 || id != "" && resp.Get("id").String() != id || resp.Get("previous_response_id").String() != id {
					t.Fatalf("turn %d: %d %s", turn, got.status, got.body)
				}
				id = resp.Get("id").String()
				asked := b.asked()
				if p.Name == "swarms" {
					a, z, _ := strings.Cut(asked, `"history"`)
					asked = z + a
				}
				var want []string
				for i := 1; i < turn && p.Name != "cognipeer"; i++ {
					want = append(want, fmt.Sprintf("question %d", i), fmt.Sprintf("answer %d", i))
				}
				if !order(asked, append(want, fmt.Sprintf("question %d", turn))...) || p.Name == "cognipeer" && turn > 1 && gjson.Get(asked, "previous_response_id").String() != "resp_c1" {
					t.Fatalf("turn %d: asked %s", turn, asked)
				}
			}
			// A value that is no id of a conversation begins a new one, without a word.
			if got := r.cognipeer(`"input":"new","previous_response_id":"conv-7"`); got.status != 200 || got.response().Get("id").String() == id || got.response().Get("previous_response_id").Type != gjson.Null ||
				strings.Contains(got.header.Get("Dragoman-Dropped"), "previous_response_id") != (p.Name != "cognipeer") {
				t.Errorf("%d %s, dropped %s", got.status, got.body, got.header.Get("Dragoman-Dropped"))
			}
			if asked := b.asked(); strings.Contains(asked, "question") {
				t.Errorf("asked %s", asked)
			}
		})
	}
}

// TestCognipeersOwnNotFound: in the vendor's words and order of checks, for what is missing, foreign, of another agent, or was
// not to be kept.
func TestCognipeersOwnNotFound(t *testing.T) {
	t.Parallel()
	b, other := telling(t, "chat"), telling(t, "chat")
	r := start(t, twoOwners+"state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: chat, url: \"http://"+b.addr+"\", model: m}\n  - {name: other, protocol: chat, url: \"http://"+other.addr+"\", model: m}\n")
	id := r.cognipeer(`"input":"hello"`, asAnn).response().Get("id").String()
	unkept := r.cognipeer(`"input":"hello","store":false`, asAnn).response().Get("id").String()
	turn := r.respond(`"input":"hello"`, asAnn).Get("id").String()
	const notFound = `{"error":"previous_response_id does not match a valid conversation"}`
	for what, got := range map[string]reply{
		"missing":         r.cognipeer(`"input":"on"`+previous("resp_"+strings.Repeat("0", 32)), asAnn),
		"malformed":       r.cognipeer(`"input":"on"`+previous("resp_x"), asAnn),
		"foreign":         r.cognipeer(`"input":"on"`+previous(id), asBob),
		"unkept":          r.cognipeer(`"input":"on"`+previous(unkept), asAnn),
		"a turn's":        r.cognipeer(`"input":"on"`+previous(turn), asAnn),
		"another agent's": r.request("POST", "/api/client/v1/responses", `{"model":"other","input":"on"`+previous(id)+`}`, asAnn),
	} {
		if got.status != 404 || got.body != notFound {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if got := r.cognipeer(`"input":""`+previous("resp_x"), asAnn); got.status != 400 || !strings.Contains(got.body, "input field is required") {
		t.Errorf("the input comes first: %d %s", got.status, got.body)
	}
	if got := r.request("POST", "/api/client/v1/responses", `{"model":"none","input":""`+previous("resp_x")+`}`, asAnn); got.status != 404 || !strings.Contains(got.body, "Agent not found") {
		t.Errorf("the agent comes first: %d %s", got.status, got.body)
	}
	r.refuses(`"input":"on","previous_response_id":"`+id+`"`, 400, "previous_response_not_found", asAnn)
	if got := r.cognipeer(`"input":"on"`+previous(id), asAnn); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}
