package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// request sends a request on a connection of its own and reads the answer.
func (r *running) request(method, path, body string, headers ...string) reply {
	r.t.Helper()
	c := r.dial()
	c.send(method, path, body, strings.Join(headers, ""))
	return c.reply()
}

// TestAnswersAreFetched as the client had them, and deleted.
func TestAnswersAreFetched(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"chat", "responses"} {
		for _, prefix := range []string{"/v1", "", "/agents/it/v1"} {
			b := telling(t, protocol)
			r := start(t, keepingYAML(protocol, b.addr))
			for _, stream := range []string{"true", "false"} {
				resp := r.respond(`"input":"hello","instructions":"be brief","metadata":{"a":"b"},"stream":` + stream)
				id := resp.Get("id").String()
				got := r.request("GET", prefix+"/responses/"+id, "")
				if got.status != 200 || !sameJSON(t, got.body, resp.Raw) {
					t.Errorf("%s%s: got %d %s\nwant %s", protocol, prefix, got.status, got.body, resp.Raw)
				}
				if got := r.request("GET", prefix+"/responses/"+id+"?stream=true", ""); got.status != 400 {
					t.Errorf("a stream of what was not made in the background: %d %s", got.status, got.body)
				}
				if got := r.request("POST", prefix+"/responses/"+id+"/cancel", ""); got.status != 400 {
					t.Errorf("cancel: %d %s", got.status, got.body)
				}
				next := r.respond(`"input":"on","previous_response_id":"` + id + `"`).Get("id").String()
				if got := r.request("DELETE", prefix+"/responses/"+id, ""); got.status != 200 || got.body != `{"id":"`+id+`","object":"response","deleted":true}` {
					t.Errorf("delete: %d %s", got.status, got.body)
				}
				for _, method := range []string{"GET", "DELETE"} {
					if got := r.request(method, prefix+"/responses/"+id, ""); got.status != 404 || gjson.Get(got.body, "error.message").String() != "Response with id '"+id+"' not found." {
						t.Errorf("%s: %d %s", method, got.status, got.body)
					}
				}
				// What came after it lacks its context.
				r.refuses(`"input":"on","previous_response_id":"`+next+`"`, 400, "previous_response_not_found")
			}
		}
	}
}

// sameJSON compares two documents but for the order of members.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var flat func(v gjson.Result) string
	flat = func(v gjson.Result) string {
		if !v.IsObject() && !v.IsArray() {
			return v.Raw
		}
		parts := map[string]string{}
		n := 0
		v.ForEach(func(k, m gjson.Result) bool {
			key := k.String()
			if v.IsArray() {
				key = fmt.Sprint(n)
			}
			n++
			parts[key] = flat(m)
			return true
		})
		return fmt.Sprint(parts) // sorted by key
	}
	return flat(gjson.Parse(a)) == flat(gjson.Parse(b))
}

// TestForeignAndMissingAreTheSame at every route, but for the id that is repeated.
func TestForeignAndMissingAreTheSame(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, twoOwners+keepingYAML("chat", b.addr))
	resp := r.respond(`"input":"secret"`, asAnn).Get("id").String()
	conv := gjson.Get(r.request("POST", "/v1/conversations", `{"items":[{"role":"user","content":"secret"}]}`, asAnn).body, "id").String()
	item := gjson.Get(r.request("GET", "/v1/conversations/"+conv+"/items", "", asAnn).body, "data.0.id").String()
	if resp == "" || conv == "" || item == "" {
		t.Fatal("nothing was kept")
	}
	zero := func(id string) string {
		kind, rest, _ := strings.Cut(id, "_")
		return kind + "_" + strings.Repeat("0", len(rest))
	}
	for _, q := range []struct{ method, path, body string }{
		{"GET", "/v1/responses/RESP", ""}, {"DELETE", "/v1/responses/RESP", ""}, {"POST", "/v1/responses/RESP/cancel", ""},
		{"GET", "/v1/responses/RESP/input_items", ""},
		{"GET", "/v1/conversations/CONV", ""}, {"POST", "/v1/conversations/CONV", `{"metadata":{}}`}, {"DELETE", "/v1/conversations/CONV", ""},
		{"GET", "/v1/conversations/CONV/items", ""}, {"POST", "/v1/conversations/CONV/items", `{"items":[{"role":"user","content":"x"}]}`},
		{"GET", "/v1/conversations/CONV/items/ITEM", ""}, {"DELETE", "/v1/conversations/CONV/items/ITEM", ""},
		{"POST", "/v1/responses", `{"model":"it","input":"x","conversation":"CONV"}`},
		{"POST", "/v1/responses", `{"model":"it","input":"x","previous_response_id":"RESP"}`},
	} {
		said := func(resp, conv, item string) (int, string) {
			in := strings.NewReplacer("RESP", resp, "CONV", conv, "ITEM", item)
			got := r.request(q.method, in.Replace(q.path), in.Replace(q.body), asBob)
			return got.status, strings.NewReplacer(resp, "RESP", conv, "CONV", item, "ITEM").Replace(got.body)
		}
		status, foreign := said(resp, conv, item)
		status2, missing := said(zero(resp), zero(conv), zero(item))
		if status != status2 || foreign != missing || status != 404 && status != 400 {
			t.Errorf("%s %s: foreign %d %s\nmissing %d %s", q.method, q.path, status, foreign, status2, missing)
		}
		if status, malformed := said("resp_x", "conv_y", "msg_z"); status != status2 || malformed != missing {
			t.Errorf("%s %s: malformed %d %s\nmissing %s", q.method, q.path, status, malformed, missing)
		}
	}
	if got := r.request("GET", "/v1/responses/"+resp, "", asAnn); got.status != 200 {
		t.Errorf("it is gone: %d %s", got.status, got.body)
	}
	if got := r.request("GET", "/v1/conversations/"+conv+"/items/"+item, "", asAnn); got.status != 200 || gjson.Get(got.body, "content.0.text").String() != "secret" {
		t.Errorf("it is gone: %d %s", got.status, got.body)
	}
}

// TestInputItemsArePaged: what an answer was asked with, item by item, in either order.
func TestInputItemsArePaged(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	var items []string
	for i := range 45 {
		items = append(items, fmt.Sprintf(`{"role":"user","content":"item %d"}`, i))
	}
	first := r.respond(`"input":"before"`).Get("id").String()
	id := r.respond(`"previous_response_id":"` + first + `","input":[` + strings.Join(items, ",") + `]`).Get("id").String()
	texts := func(query string) (list []string, body gjson.Result) {
		t.Helper()
		got := r.request("GET", "/v1/responses/"+id+"/input_items"+query, "")
		if got.status != 200 {
			t.Fatalf("%s: %d %s", query, got.status, got.body)
		}
		body = gjson.Parse(got.body)
		body.Get("data").ForEach(func(_, v gjson.Result) bool {
			if v.Get("type").String() != "message" || v.Get("content.0.type").String() != "input_text" || !strings.HasPrefix(v.Get("id").String(), "msg_") {
				t.Errorf("got %s", v)
			}
			list = append(list, strings.TrimPrefix(v.Get("content.0.text").String(), "item "))
			return true
		})
		return list, body
	}
	list, body := texts("")
	if len(list) != 20 || list[0] != "44" || list[19] != "25" || !body.Get("has_more").Bool() || body.Get("object").String() != "list" ||
		body.Get("first_id").String() != body.Get("data.0.id").String() || body.Get("last_id").String() != body.Get("data.19.id").String() {
		t.Errorf("got %s %s", list, body)
	}
	var all []string
	for after, pages := "", 0; ; pages++ {
		list, body := texts("?order=asc&limit=7" + after)
		all = append(all, list...)
		if !body.Get("has_more").Bool() {
			if pages != 6 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		after = "&after=" + body.Get("last_id").String()
	}
	if len(all) != 45 || all[0] != "0" || all[44] != "44" {
		t.Errorf("got %s", all)
	}
	_, body = texts("?order=asc&limit=100")
	if list, _ := texts("?order=asc&before=" + body.Get("data.3.id").String()); len(list) != 3 || list[2] != "2" {
		t.Errorf("got %s", list)
	}
	for _, bad := range []string{"?limit=0", "?limit=101", "?limit=x", "?order=up", "?after=msg_none", "?before=msg_none", "?after=%zz"} {
		if got := r.request("GET", "/v1/responses/"+id+"/input_items"+bad, ""); got.status != 400 || gjson.Get(got.body, "error.type").String() != "invalid_request_error" {
			t.Errorf("%s: %d %s", bad, got.status, got.body)
		}
	}
}

// TestConversationObjects are made, filled, gone on with, listed, changed and deleted.
func TestConversationObjects(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	made := r.request("POST", "/v1/conversations", `{"items":[{"type":"message","role":"user","content":"topic"}],"metadata":{"topic":"demo"}}`)
	conv := gjson.Get(made.body, "id").String()
	if made.status != 200 || len(conv) != 37 || gjson.Get(made.body, "object").String() != "conversation" || gjson.Get(made.body, "metadata.topic").String() != "demo" || gjson.Get(made.body, "created_at").Int() == 0 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	one := r.respond(`"input":"one","conversation":"` + conv + `"`)
	if one.Get("conversation.id").String() != conv || one.Get("previous_response_id").Type != gjson.Null {
		t.Errorf("got %s", one)
	}
	if got := b.asked(); !order(got, "topic", "one") {
		t.Errorf("asked %s", got)
	}
	if got := r.request("POST", "/v1/conversations/"+conv+"/items", `{"items":[{"role":"user","content":"aside"},{"role":"assistant","content":"noted"}]}`); got.status != 200 ||
		gjson.Get(got.body, "data.#").Int() != 2 || gjson.Get(got.body, "data.1.content.0.type").String() != "output_text" {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"unkept","store":false,"conversation":{"id":"` + conv + `"}`)
	if got := b.asked(); !order(got, "topic", "one", "answer 1", "aside", "noted", "unkept") {
		t.Errorf("asked %s", got)
	}
	two := r.respond(`"input":"two","stream":true,"conversation":{"id":"` + conv + `"}`)
	if got := b.asked(); !order(got, "topic", "one", "answer 1", "aside", "noted", "two") || strings.Contains(got, "unkept") {
		t.Errorf("asked %s", got)
	}
	// An answer of it can be gone on from by its id too.
	r.respond(`"input":"three","previous_response_id":"` + two.Get("id").String() + `","store":false`)
	if got := b.asked(); !order(got, "topic", "one", "answer 1", "aside", "noted", "two", "answer 3", "three") {
		t.Errorf("asked %s", got)
	}
	listed := r.request("GET", "/v1/conversations/"+conv+"/items?order=asc&limit=100", "")
	var texts []string
	gjson.Get(listed.body, "data").ForEach(func(_, v gjson.Result) bool {
		texts = append(texts, v.Get("content.0.text").String())
		return true
	})
	if got, want := fmt.Sprint(texts), "[topic one answer 1 aside noted two answer 3]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	item := gjson.Get(listed.body, "data.3.id").String()
	if got := r.request("GET", "/v1/conversations/"+conv+"/items/"+item, ""); got.status != 200 || gjson.Get(got.body, "content.0.text").String() != "aside" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := r.request("DELETE", "/v1/conversations/"+conv+"/items/"+item, ""); got.status != 200 || gjson.Get(got.body, "id").String() != conv {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := r.request("GET", "/v1/conversations/"+conv+"/items/"+item, ""); got.status != 404 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"four","conversation":"` + conv + `"`)
	if got := b.asked(); strings.Contains(got, "aside") || !order(got, "noted", "four") {
		t.Errorf("asked %s", got)
	}
	if got := r.request("POST", "/v1/conversations/"+conv, `{"metadata":{"topic":"other"}}`); got.status != 200 || gjson.Get(got.body, "metadata.topic").String() != "other" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := r.request("GET", "/conversations/"+conv, ""); got.status != 200 || gjson.Get(got.body, "metadata.topic").String() != "other" || gjson.Get(got.body, "created_at").Raw != gjson.Get(made.body, "created_at").Raw {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := r.request("DELETE", "/v1/conversations/"+conv, ""); got.status != 200 || got.body != `{"id":"`+conv+`","object":"conversation.deleted","deleted":true}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.refuses(`"input":"five","conversation":"`+conv+`"`, 404, "conversation_not_found")
	if n := r.state.Stats().Bytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	for body, param := range map[string]string{
		`{"items":[{"type":"zebra"}]}`: "items[0].type",
		`{"items":[` + strings.Repeat(`{"role":"user","content":"x"},`, 20) + `{"role":"user","content":"x"}]}`: "items",
		`{"items":{}}`: "items", `{"metadata":[]}`: "metadata", `{"metadata":{"a":1}}`: "metadata",
		`{"items":[{"type":"item_reference","id":"msg_1"}]}`: "items[0]",
	} {
		if got := r.request("POST", "/v1/conversations", body); got.status != 400 || gjson.Get(got.body, "error.param").String() != param {
			t.Errorf("%.80s: %d %s", body, got.status, got.body)
		}
	}
	r.refuses(`"input":"x","conversation":"conv_1","previous_response_id":"resp_1"`, 400, "mutually_exclusive_parameters")
}

// TestTurnsOfAConversationGoOneByOne: a second request waits for the first, and is told if that takes too long.
func TestTurnsOfAConversationGoOneByOne(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	n := 0
	b := stage(t, func(v *visit) {
		if n++; n == 1 {
			<-gate
		}
		v.tell("chat", fmt.Sprintf("answer %d", n))
	})
	r := start(t, "limits: {queue: {wait: 60s}}\n"+keepingYAML("chat", b.addr))
	hasty := start(t, "limits: {queue: {wait: 0s}}\n"+keepingYAML("chat", b.addr), func(s *Server) { s.state = unclosed{r.state} })
	conv := gjson.Get(r.request("POST", "/v1/conversations", `{}`).body, "id").String()
	members := `"conversation":"` + conv + `"`
	done := make(chan gjson.Result, 2)
	go func() { done <- r.respond(`"input":"first",` + members) }()
	b.asked()
	hasty.refuses(`"input":"hasty",`+members, 409, "conversation_locked")
	for _, edit := range [][3]string{{"POST", "/items", `{"items":[{"role":"user","content":"an aside"}]}`}, {"DELETE", "", ""}} { // nothing comes between a turn and its answer
		got := hasty.request(edit[0], "/v1/conversations/"+conv+edit[1], edit[2])
		if got.status != 409 || gjson.Get(got.body, "error.code").String() != "conversation_locked" {
			t.Errorf("%s: %d %s", edit, got.status, got.body)
		}
	}
	go func() { done <- r.respond(`"input":"second",` + members) }()
	close(gate)
	<-done
	if got := b.asked(); !order(got, "first", "answer 1", "second") {
		t.Errorf("asked %s", got)
	}
	<-done
	hasty.respond(`"input":"third",` + members)
	if got := b.asked(); !order(got, "first", "answer 1", "second", "answer 2", "third") {
		t.Errorf("asked %s", got)
	}
}
