package translate

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// respSkeleton writes the Response object that lifecycle events and JSON answers
// carry: every field that the vendor's specification or that of Open Responses
// requires, with the request's own values where it gave some. What does not
// change during an answer is written once.
type respSkeleton struct {
	head []byte // up to completed_at
	mid  []byte // from instructions to output
	tail []byte // from parallel_tool_calls to service_tier
	tier []byte // raw
	rest []byte // from there to usage
	last []byte // the rest

	zeroes bool // usage that nobody counted is zeroes, not null

	store, background bool
}

// respEcho are the fields of the request that the answer repeats, raw.
type respEcho struct {
	instructions, maxOutputTokens, maxToolCalls                   string
	parallelToolCalls, promptCacheKey, effort, summary            string
	safetyIdentifier, serviceTier, temperature, format, verbosity string
	toolChoice, tools, topLogprobs, topP, presence, frequency     string
	truncation, user, metadata, promptCacheRetention, version     string

	dialect bool // Cognipeer's, whose answers always have a version and a usage

	previous, conversation string // ids
	background             bool
}

// newRespEcho has what the answer says where the request says nothing.
func newRespEcho() respEcho {
	return respEcho{
		instructions: "null", maxOutputTokens: "null", maxToolCalls: "null",
		parallelToolCalls: "true", promptCacheKey: "null", effort: "null", summary: "null",
		safetyIdentifier: "null", serviceTier: `"default"`, temperature: "1.0", format: `{"type":"text"}`,
		toolChoice: `"auto"`, tools: "[]", topLogprobs: "0", topP: "1.0", presence: "0.0", frequency: "0.0",
		truncation: `"disabled"`, user: "null", metadata: "{}",
	}
}

// field is where the field of that name is kept, nil for one that is not
// repeated as it is.
func (o *respEcho) field(key string) *string {
	switch key {
	case "instructions":
		return &o.instructions
	case "max_output_tokens":
		return &o.maxOutputTokens
	case "max_tool_calls":
		return &o.maxToolCalls
	case "parallel_tool_calls":
		return &o.parallelToolCalls
	case "prompt_cache_key":
		return &o.promptCacheKey
	case "prompt_cache_retention":
		return &o.promptCacheRetention
	case "safety_identifier":
		return &o.safetyIdentifier
	case "service_tier":
		return &o.serviceTier
	case "temperature":
		return &o.temperature
	case "tool_choice":
		return &o.toolChoice
	case "tools":
		return &o.tools
	case "top_logprobs":
		return &o.topLogprobs
	case "top_p":
		return &o.topP
	case "presence_penalty":
		return &o.presence
	case "frequency_penalty":
		return &o.frequency
	case "truncation":
		return &o.truncation
	case "user":
		return &o.user
	case "metadata":
		return &o.metadata
	case "version":
		return &o.version
	}
	return nil
}

// read takes over what the request says.
func (o *respEcho) read(body []byte) {
	gjson.Parse(viewString(body)).ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		key := k.String()
		switch f := o.field(key); {
		case f != nil:
			*f = v.Raw
		case key == "reasoning":
			v.ForEach(func(k, v gjson.Result) bool {
				switch k.String() {
				case "effort":
					o.effort = v.Raw
				case "summary", "generate_summary":
					if v.Type != gjson.Null {
						o.summary = v.Raw
					}
				}
				return true
			})
		case key == "text":
			v.ForEach(func(k, v gjson.Result) bool {
				switch {
				case v.Type == gjson.Null:
				case k.String() == "format":
					o.format = v.Raw
				case k.String() == "verbosity":
					o.verbosity = v.Raw
				}
				return true
			})
		}
		return true
	})
	if o.serviceTier == `"auto"` { // what the server chose is what it tells
		o.serviceTier = `"default"`
	}
}

// respEchoOf is what the answer to a request repeats of it.
func respEchoOf(r *Request) respEcho {
	o := newRespEcho()
	if r == nil {
		return o
	}
	o.read(r.Body)
	if o.dialect = r.Face != nil && r.Face.Name == "cognipeer"; o.dialect {
		o.version = cognipeerEcho(o.version)
	} else {
		o.version = ""
	}
	return o
}

// newRespSkeleton prepares the object of one answer.
func newRespSkeleton(id, model string, created int64, echo *respEcho) *respSkeleton {
	b := make([]byte, 0, 1024+len(echo.instructions)+len(echo.tools)+len(echo.metadata)+len(echo.format))
	raw := func(key, value string) {
		b = append(append(append(b, `,"`...), key...), `":`...)
		b = respAppendJSON(b, viewBytes(value))
	}
	b = append(b, `{"id":`...)
	b = jsonx.AppendStringS(b, id)
	b = append(b, `,"object":"response","created_at":`...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"completed_at":`...)
	head := len(b)

	raw("instructions", echo.instructions)
	raw("max_output_tokens", echo.maxOutputTokens)
	raw("max_tool_calls", echo.maxToolCalls)
	b = append(b, `,"model":`...)
	b = jsonx.AppendStringS(b, model)
	b = append(b, `,"output":[`...)
	mid := len(b)

	b = append(b, ']')
	raw("parallel_tool_calls", echo.parallelToolCalls)
	b = append(b, `,"previous_response_id":`...)
	if echo.previous != "" {
		b = jsonx.AppendStringS(b, echo.previous)
	} else {
		b = append(b, "null"...)
	}
	if echo.conversation != "" {
		b = append(b, `,"conversation":{"id":`...)
		b = append(jsonx.AppendStringS(b, echo.conversation), '}')
	}
	raw("prompt_cache_key", echo.promptCacheKey)
	if echo.promptCacheRetention != "" {
		raw("prompt_cache_retention", echo.promptCacheRetention)
	}
	b = append(b, `,"reasoning":{"effort":`...)
	b = respAppendJSON(b, viewBytes(echo.effort))
	raw("summary", echo.summary)
	b = append(b, '}')
	raw("safety_identifier", echo.safetyIdentifier)
	b = append(b, `,"service_tier":`...)
	tail := len(b)
	raw("temperature", echo.temperature)
	b = append(b, `,"text":{"format":`...)
	b = respAppendJSON(b, viewBytes(echo.format))
	if echo.verbosity != "" {
		raw("verbosity", echo.verbosity)
	}
	b = append(b, '}')
	raw("tool_choice", echo.toolChoice)
	b = append(b, `,"tools":`...)
	b = appendEchoedTools(b, echo.tools)
	raw("top_logprobs", echo.topLogprobs)
	raw("top_p", echo.topP)
	raw("presence_penalty", echo.presence)
	raw("frequency_penalty", echo.frequency)
	raw("truncation", echo.truncation)
	b = append(b, `,"usage":`...)
	rest := len(b)

	raw("user", echo.user)
	raw("metadata", echo.metadata)
	if echo.version != "" { // Cognipeer's
		raw("version", echo.version)
	}
	b = append(b, '}')
	last := len(b)
	b = respAppendJSON(b, viewBytes(echo.serviceTier))
	return &respSkeleton{
		head: b[:head], mid: b[head:mid], tail: b[mid:tail], rest: b[tail:rest], last: b[rest:last],
		tier: b[last:], zeroes: echo.dialect, background: echo.background,
	}
}

// appendEchoedTools repeats the tools as the client wrote them; the members
// that a function in an answer must have are null where he left them out.
func appendEchoedTools(dst []byte, tools string) []byte {
	dst = append(dst, '[')
	n := 0
	gjson.Parse(tools).ForEach(func(_, t gjson.Result) bool {
		if n > 0 {
			dst = append(dst, ',')
		}
		n++
		dst = respAppendJSON(dst, viewBytes(t.Raw))
		if respText(t.Get("type")) == "function" {
			dst = dst[:len(dst)-1]
			for _, key := range [...]string{"description", "parameters", "strict"} {
				if !t.Get(key).Exists() {
					dst = append(append(append(dst, `,"`...), key...), `":null`...)
				}
			}
			dst = append(dst, '}')
		}
		return true
	})
	return append(dst, ']')
}

// append writes the object. completed is 0 unless the answer is complete; err
// and reason say why it failed or is incomplete.
func (o *respSkeleton) append(dst []byte, status string, completed int64, err *Error, reason string, output []byte, u Usage) []byte {
	dst = append(dst, o.head...)
	if completed > 0 {
		dst = strconv.AppendInt(dst, completed, 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(append(append(dst, `,"status":"`...), status...), `","background":`...)
	dst = append(strconv.AppendBool(dst, o.background), `,"error":`...)
	if err != nil {
		dst = append(dst, `{"code":`...)
		dst = jsonx.AppendStringS(dst, firstOf(err.Code, "server_error"))
		dst = append(dst, `,"message":`...)
		dst = jsonx.AppendStringS(dst, err.ClientMessage())
		dst = append(dst, '}')
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"incomplete_details":`...)
	if reason != "" {
		dst = append(append(append(dst, `{"reason":"`...), reason...), `"}`...)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, o.mid...)
	dst = append(dst, output...)
	dst = append(append(dst, o.tail...), o.tier...)
	dst = strconv.AppendBool(append(dst, `,"store":`...), o.store)
	dst = append(dst, o.rest...)
	if o.zeroes && !u.Known() && err == nil && status != "in_progress" {
		u = Usage{}
	}
	dst = appendRespUsage(dst, u)
	return append(dst, o.last...)
}

// appendRespUsage writes the usage, null if nobody counted. The vendor's
// details are required members.
func appendRespUsage(dst []byte, u Usage) []byte {
	if !u.Known() {
		return append(dst, "null"...)
	}
	count := func(key string, n int64) {
		dst = strconv.AppendInt(append(dst, key...), max(n, 0), 10)
	}
	count(`{"input_tokens":`, u.Input)
	count(`,"input_tokens_details":{"cached_tokens":`, u.Cached)
	count(`,"cache_write_tokens":`, u.Written)
	count(`},"output_tokens":`, u.Output)
	count(`,"output_tokens_details":{"reasoning_tokens":`, u.Reasoning)
	count(`},"total_tokens":`, u.Sum())
	return append(dst, '}')
}
