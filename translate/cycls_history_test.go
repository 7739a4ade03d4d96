package translate

import "testing"

// TestCyclsHistoryIsReadByEveryVersion gives messages that have only parts the
// content which all versions read, and touches nothing else.
func TestCyclsHistoryIsReadByEveryVersion(t *testing.T) {
	t.Parallel()
	f := func(era, in, want string) {
		t.Helper()
		body := `{ "messages" : [{"role":"user","content":"a"},` + in + `, {"role":"user", "content":"c"} ],"x":1.0}`
		r, err := cyclsCodec{}.DecodeRequest(&Inbound{Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := cyclsCodec{}.SpliceRequest(nil, r, &Agent{Name: "it", Options: map[string]string{"era": era}})
		want = `{ "messages" : [{"role":"user","content":"a"},` + want + `, {"role":"user", "content":"c"} ],"x":1.0}`
		if err != nil || string(got) != want {
			t.Errorf("%s: got\n%s, %v, want\n%s", era, got, err, want)
		}
	}
	same := func(era, in string) { t.Helper(); f(era, in, in) }
	for _, era := range []string{"auto", "text", "array", "chat"} {
		f(era, `{"role":"assistant","parts":[{"type":"text","text":"b"}]}`,
			`{"content":"b","role":"assistant","parts":[{"type":"text","text":"b"}]}`)
	}
	same("typed", `{"role":"assistant","parts":[{"type":"text","text":"b"}]}`)
	// Pieces join as they were written, and only texts count.
	f("auto", `{"role":"assistant","parts":[{"type":"thinking","thinking":"t"},{"type":"text","text":"\ud83c"},{"type":"table","headers":["x"]},{"text":"\udf0d\n","type":"text"}]}`,
		`{"content":"\ud83c\udf0d\n","role":"assistant","parts":[{"type":"thinking","thinking":"t"},{"type":"text","text":"\ud83c"},{"type":"table","headers":["x"]},{"text":"\udf0d\n","type":"text"}]}`)
	// The form of .64.
	f("auto", `{"role":"assistant","parts":[{"name":"text","content":"b"}]}`, `{"content":"b","role":"assistant","parts":[{"name":"text","content":"b"}]}`)
	// Content that is nothing to the server.
	f("auto", `{"role":"assistant","content": null,"parts":[{"type":"text","text":"b"}]}`, `{"role":"assistant","content": "b","parts":[{"type":"text","text":"b"}]}`)
	f("auto", `{"role":"assistant","content":"","parts":[{"type":"text","text":"b"}]}`, `{"role":"assistant","content":"b","parts":[{"type":"text","text":"b"}]}`)
	same("auto", `{"role":"assistant","content":"x","parts":[{"type":"text","text":"b"}]}`)
	same("auto", `{"role":"assistant","content":[{"type":"text","text":"x"}],"parts":[{"type":"text","text":"b"}]}`)
	same("auto", `{"role":"assistant","parts":[{"type":"image","src":"https://example.com/a.png"}]}`)
	same("auto", `{"role":"assistant","parts":[]}`)
}

// TestCyclsWorkspacePathsInResults refuses an image in the agent's workspace
// also where it stands in a tool's result.
func TestCyclsWorkspacePathsInResults(t *testing.T) {
	t.Parallel()
	body := `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
		{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"x"},{"type":"image","image":"attachments/a.png"}]}]}`
	for _, p := range registry {
		if p.Name == "cycls" {
			continue
		}
		r, err := cyclsCodec{}.DecodeRequest(&Inbound{Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = p.Encode(nil, r, &Agent{Name: "it", Options: map[string]string{}}, true); err == nil || err.Status != 400 || err.Param != "messages[2].content[1]" {
			t.Errorf("%s: %+v, want a 400 for messages[2].content[1]", p.Name, err)
		}
	}
}
