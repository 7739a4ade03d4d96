package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/respjson"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
)

// written is what one face wrote for one case of translate/testdata.
type written struct {
	name   string
	status int
	body   []byte
	passed bool   // it is the backend's own
	fails  bool   // it tells a failure, in a body or in a frame of its own
	code   string // of the failure
}

func readWritten(dir, face, mode string) (*written, error) {
	name := filepath.Join(dir, "face."+face+"."+mode)
	body, err := os.ReadFile(name)
	w := &written{name: name, status: 200, body: body}
	if err != nil {
		return nil, err
	}
	if head, rest, ok := bytes.Cut(body, []byte("\n")); ok && bytes.HasPrefix(head, []byte("HTTP ")) {
		w.body = rest
		if _, err := fmt.Sscanf(string(head), "HTTP %d", &w.status); err != nil {
			return nil, err
		}
	}
	_, err = os.Stat(filepath.Join(dir, "backend."+mode))
	w.passed = w.status == 200 && filepath.Base(filepath.Dir(dir)) == face && err == nil
	if w.passed {
		return w, nil
	}
	docs := [][]byte{w.body}
	if mode == "sse" && w.status == 200 {
		docs = nil
		for line := range bytes.Lines(w.body) {
			if data, ok := bytes.CutPrefix(line, []byte("data: {")); ok {
				docs = append(docs, append([]byte("{"), data...))
			}
		}
	}
	for _, d := range docs {
		var v struct{ Error json.RawMessage }
		if err := json.Unmarshal(d, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(v.Error) > 0 && string(v.Error) != "null" {
			var e struct{ Code string }
			_ = json.Unmarshal(v.Error, &e) // Cognipeer's is a string
			w.fails, w.code = true, e.Code
			break
		}
	}
	return w, nil
}

// RoundTrip answers every request with what was written.
func (w *written) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := "application/json"
	if w.status == 200 && strings.HasSuffix(w.name, ".sse") {
		kind = "text/event-stream"
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(w.body)),
	}, nil
}

func (w *written) client() openai.Client {
	return openai.NewClient(option.WithBaseURL("http://golden/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: w}))
}

// goldenTests reads with the SDK all that the faces write of its two APIs.
func goldenTests(testdata string) ([]test, error) {
	debug.SetGCPercent(800) // it lives for seconds, and throws away all that it reads
	type face struct {
		name string
		read func(sse, whole *written, gather bool) error
	}
	faces := []face{{"responses", goldenResponse}, {"cognipeer", goldenResponse}, {"chat", goldenChat}, {"ticos", goldenChat}}
	var tests []test
	for _, backend := range []string{"chat", "responses", "cognipeer", "ticos", "swarms", "cycls"} {
		dirs, err := filepath.Glob(filepath.Join(testdata, backend, "*", ""))
		if err != nil || len(dirs) == 0 {
			return nil, fmt.Errorf("no cases of %s in %s: %w", backend, testdata, err)
		}
		for _, f := range faces {
			tests = append(tests, test{"streams and bodies of face." + f.name + " behind " + backend, func(x t) {
				looked := 0
				var wrong []string
				for _, dir := range dirs {
					sse, err := readWritten(dir, f.name, "sse")
					x.ok(err)
					whole, err := readWritten(dir, f.name, "json")
					x.ok(err)
					if sse.passed {
						continue
					}
					looked++
					// Where a stream passes through, that of the dialect is put together.
					if err := f.read(sse, whole, f.name == "responses" || backend == "responses"); err != nil {
						wrong = append(wrong, fmt.Sprintf("%s: %v", sse.name, err))
					}
				}
				x.check(len(wrong) == 0, "%s", strings.Join(wrong, "\n"))
				x.check(looked > 0 || f.name == backend, "no stream")
			}})
		}
	}
	return tests, nil
}

// failedAs checks that the SDK returned the failure that is told.
func failedAs(w, whole *written, err error) error {
	var api *openai.Error
	var inBand *ssestream.StreamError
	switch {
	case err == nil:
		return errors.New("there was no error")
	case !whole.passed && !whole.fails:
		return errors.New("the JSON face tells no failure")
	case w.status != 200 && w.code == "": // Cognipeer's errors are a string, which the SDK does not read
	case w.status != 200:
		if !errors.As(err, &api) || api.StatusCode != w.status || api.Code != w.code {
			return fmt.Errorf("got %v, want status %d and code %q", err, w.status, w.code)
		}
	case !errors.As(err, &inBand) || !strings.Contains(string(inBand.Event.Data), w.code):
		return fmt.Errorf("got %v, want code %q", err, w.code)
	}
	return nil
}

// unfit adds the fields that are there but could not be read as their type says.
func unfit(v reflect.Value, at string, found map[string]string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			unfit(v.Elem(), at, found)
		}
	case reflect.Slice:
		for i := range v.Len() {
			unfit(v.Index(i), at+"[]", found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			if f.Name != "JSON" {
				// A union's variants that it is not are not read.
				if j := v.FieldByName("JSON"); !j.IsValid() || fits(j, f.Name) {
					unfit(v.Field(i), at+"."+f.Name, found)
				}
				continue
			}
			for k := range v.Field(i).NumField() {
				if field, ok := respField(v.Field(i).Field(k)); ok {
					if raw := field.Raw(); raw != respjson.Omitted && raw != respjson.Null && !field.Valid() {
						found[at+"."+v.Field(i).Type().Field(k).Name] = raw
					}
				}
			}
		}
	}
}

// fits reports whether the field of that name is there.
func fits(fields reflect.Value, name string) bool {
	field, ok := respField(fields.FieldByName(name))
	return !ok || field.Valid()
}

func respField(v reflect.Value) (respjson.Field, bool) {
	if !v.IsValid() || !v.CanInterface() {
		return respjson.Field{}, false
	}
	field, ok := v.Interface().(respjson.Field)
	return field, ok
}

func fit(v any) error {
	found := map[string]string{}
	unfit(reflect.ValueOf(v), fmt.Sprintf("%T", v), found)
	for _, at := range slices.Sorted(maps.Keys(found)) {
		return fmt.Errorf("%s cannot be %.80s", at, found[at])
	}
	return nil
}

// said is what the items of a Response say, without their ids.
func said(output []responses.ResponseOutputItemUnion) (said []string) {
	for _, item := range output {
		switch v := item.AsAny().(type) {
		case responses.ResponseOutputMessage:
			for _, c := range v.Content {
				said = append(said, c.Type+" "+c.Text+c.Refusal)
			}
		case responses.ResponseReasoningItem:
			for _, s := range v.Summary {
				said = append(said, "reasoning "+s.Text)
			}
		case responses.ResponseFunctionToolCall:
			said = append(said, strings.Join([]string{"function", v.CallID, v.Name, v.Arguments}, " "))
		case responses.ResponseCustomToolCall:
			said = append(said, strings.Join([]string{"custom", v.CallID, v.Name, v.Input}, " "))
		default:
			said = append(said, item.Type)
		}
	}
	return said
}

func differ(got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("\n   got %#v\n  want %#v", got, want)
	}
	return nil
}

func goldenResponse(sse, whole *written, gather bool) error {
	ctx := context.Background()
	p := askResponses("demo-model", "Hello")
	c := sse.client()
	stream := c.Responses.NewStreaming(ctx, p)
	var acc responses.ResponseAccumulator
	var r *responses.Response
	for stream.Next() {
		e := stream.Current()
		v := e.AsAny()
		if v == nil {
			return fmt.Errorf("the SDK knows no event %s", e.Type)
		}
		if err := fit(v); err != nil {
			return err
		}
		if e.Response.ID != "" {
			r = &e.Response
		}
		if !gather {
			continue
		}
		// The accumulator takes the events of the WebSocket, which are the same.
		var ws responses.ResponsesServerEventUnion
		if err := json.Unmarshal([]byte(e.RawJSON()), &ws); err != nil {
			return err
		}
		if err := acc.AddEvent(ws); err != nil {
			return err
		}
	}
	if sse.fails {
		return failedAs(sse, whole, stream.Err())
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if r == nil {
		return errors.New("there is no Response")
	}
	if gather {
		var err error
		if r, err = acc.ReconstructedResponse(); err != nil {
			return err
		}
		if err := differ(acc.Snapshot().OutputText(), r.OutputText()); err != nil {
			return err
		}
	}
	if whole.passed {
		return nil
	}
	c = whole.client()
	want, err := c.Responses.New(ctx, p)
	if err == nil {
		err = fit(want)
	}
	if err == nil {
		err = differ(said(r.Output), said(want.Output))
	}
	if err == nil {
		err = differ([]string{string(r.Status), r.IncompleteDetails.Reason}, []string{string(want.Status), want.IncompleteDetails.Reason})
	}
	return err
}

// chatSaid is what a message says. The accumulator does not know the custom tools of a stream.
func chatSaid(m *openai.ChatCompletionMessage) []string {
	said := []string{m.Content, m.Refusal}
	for i := range m.ToolCalls {
		if call := &m.ToolCalls[i]; call.Type == "function" {
			said = append(said, call.ID, call.Function.Name, call.Function.Arguments)
		}
	}
	return said
}

func goldenChat(sse, whole *written, _ bool) error {
	ctx := context.Background()
	p := ask("demo-model", "Hello")
	c := sse.client()
	stream := c.Chat.Completions.NewStreaming(ctx, p)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		chunk := stream.Current()
		if err := fit(chunk); err != nil {
			return err
		}
		if !acc.AddChunk(chunk) {
			return fmt.Errorf("the accumulator does not take %s", chunk.RawJSON())
		}
	}
	if sse.fails {
		return failedAs(sse, whole, stream.Err())
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if err := differ(len(acc.Choices), 1); err != nil || whole.passed {
		return err
	}
	c = whole.client()
	want, err := c.Chat.Completions.New(ctx, p)
	if err == nil {
		err = fit(want)
	}
	if err == nil {
		err = differ(chatSaid(&acc.Choices[0].Message), chatSaid(&want.Choices[0].Message))
	}
	if err == nil {
		err = differ(acc.Choices[0].FinishReason, want.Choices[0].FinishReason)
	}
	if err == nil {
		err = differ([]int64{acc.Usage.PromptTokens, acc.Usage.CompletionTokens}, []int64{want.Usage.PromptTokens, want.Usage.CompletionTokens})
	}
	return err
}
