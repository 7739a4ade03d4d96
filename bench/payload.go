package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// events is the number of chunks of a stream, without its [DONE]: one with the
// role, the text, and one with the finish reason.
const events = 64

var (
	words    = strings.Fields("The quick brown fox jumps over the lazy dog while seven wise owls watch from the old oak and say nothing")
	text     = answerText()
	chatJSON = answerJSON()
	frames   = streamFrames()
	stream   = bytes.Join(frames, nil)
)

func delta(i int) string { return words[i%len(words)] + " " }

// answerText is the text that a stream says.
func answerText() string {
	var b strings.Builder
	for i := range events - 2 {
		b.WriteString(delta(i))
	}
	return b.String()
}

// answerJSON is a chat completion of about 1 KB.
func answerJSON() []byte {
	content := strings.Repeat("All happy proxies are alike; each unhappy proxy is unhappy in its own way. ", 8)
	return fmt.Appendf(nil, `{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1789000000,"model":"burst",`+
		`"choices":[{"index":0,"message":{"role":"assistant","content":%q,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":119,"completion_tokens":144,"total_tokens":263,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},`+
		`"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_44709d6fcb"}`, content)
}

// streamFrames are the frames of a stream: the chunks, then [DONE].
func streamFrames() [][]byte {
	frame := func(delta, finish string) []byte {
		return fmt.Appendf(nil, "data: "+`{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1789000000,"model":"burst",`+
			`"choices":[{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}]}`+"\n\n", delta, finish)
	}
	out := [][]byte{frame(`"role":"assistant","content":""`, "null")}
	for i := range events - 2 {
		out = append(out, frame(`"content":`+strconv.Quote(delta(i)), "null"))
	}
	return append(out, frame("", `"stop"`), []byte("data: [DONE]\n\n"))
}

const (
	system   = "You are a helpful assistant of a shop that sells lamps. Answer briefly, in the customer's own language, and never promise what is not in stock."
	question = "Which of your lamps would you put on a desk of 120 cm, if the room has one window to the north and I mostly read on paper after sunset?"
)

// chatRequest asks a chat face; model says how the backend paces a stream.
func chatRequest(model string, stream bool) []byte {
	return post("/v1/chat/completions", stream, fmt.Appendf(nil,
		`{"model":%q,"messages":[{"role":"system","content":%q},{"role":"user","content":%q}],"temperature":0.7,"stream":%t}`,
		model, system, question, stream))
}

// responsesRequest asks a Responses face the same.
func responsesRequest(model string, stream bool) []byte {
	return post("/v1/responses", stream, fmt.Appendf(nil,
		`{"model":%q,"instructions":%q,"input":[{"role":"user","content":%q}],"temperature":0.7,"store":false,"stream":%t}`,
		model, system, question, stream))
}

func post(path string, stream bool, body []byte) []byte {
	accept := "application/json"
	if stream {
		accept = "text/event-stream"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1\r\nContent-Type: application/json\r\nAccept: %s\r\n"+
		"Authorization: Bearer none\r\nContent-Length: %d\r\n\r\n%s", path, accept, len(body), body)
}

var errAnswer = errors.New("wrong answer")

// passed accepts exactly the backend's bytes.
func passed(want []byte) check {
	return func(body []byte, _ bool) error {
		if !bytes.Equal(body, want) {
			return fmt.Errorf("%w: %d bytes that are not the backend's %d: %.300q", errAnswer, len(body), len(want), body)
		}
		return nil
	}
}

// translatedJSON accepts a completed response with the backend's text. Under
// load it looks for what a broken answer would lack; thorough reads all of it.
func translatedJSON(body []byte, thorough bool) error {
	for _, part := range []string{`"object":"response"`, `"status":"completed"`, `"output_text"`, "in its own way. \"", `"total_tokens":263`} {
		if !bytes.Contains(body, []byte(part)) {
			return fmt.Errorf("%w: no %s in %.2000q", errAnswer, part, body)
		}
	}
	if thorough && !json.Valid(body) {
		return fmt.Errorf("%w: not JSON: %.2000q", errAnswer, body)
	}
	return nil
}

// translatedStream accepts a Responses stream with every delta of the text and
// its terminal event; thorough puts the text together.
func translatedStream(body []byte, thorough bool) error {
	if n := bytes.Count(body, []byte("event: response.output_text.delta\n")); n != events-2 {
		return fmt.Errorf("%w: %d deltas instead of %d: %.2000q", errAnswer, n, events-2, body)
	}
	// Behind the terminal event there may be a [DONE], as Open Responses has it.
	body = bytes.TrimSuffix(body, []byte("data: [DONE]\n\n"))
	last := bytes.LastIndex(body, []byte("event: "))
	if !bytes.HasPrefix(body[last:], []byte("event: response.completed\n")) || !bytes.HasSuffix(body, []byte("\n\n")) {
		return fmt.Errorf("%w: it does not end with response.completed: %.2000q", errAnswer, body[last:])
	}
	if !thorough {
		return nil
	}
	var got strings.Builder
	for line := range bytes.Lines(body) {
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		var e struct{ Type, Delta string }
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		if e.Type == "response.output_text.delta" {
			got.WriteString(e.Delta)
		}
	}
	if got.String() != text {
		return fmt.Errorf("%w: the text is %q", errAnswer, got.String())
	}
	return nil
}
