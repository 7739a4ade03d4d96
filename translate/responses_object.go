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
	tail []byte // from parallel_tool_calls to usage
	last []byte // the rest
}

// respEcho are the fields of the request that the answer repeats, raw.
type respEcho struct {
	instructions, maxOutputTokens, maxToolCalls                   string
	parallelToolCalls, promptCacheKey, effort, summary            string
	safetyIdentifier, serviceTier, temperature, format, verbosity string
	toolChoice, tools, topLogprobs, topP, presence, frequency     string
	truncation, user, metadata, promptCacheRetention, version     string
}

// newRespEcho has what the answer says where the request says nothing.
func newRespEcho() *respEcho {
	return &respEcho{
		instructions: "null", maxOutputTokens: "null", maxToolCalls: "null",
		parallelToolCalls: "true", promptCacheKey: "null", effort: "null", summary: "null",
		safetyIdentifier: "null", serviceTier: `"default"`, temperature: "1.0", format: `{"type":"text"}`,
		toolChoice: `"auto"`, tools: "[]", topLogprobs: "0", topP: "1.0", presence: "0.0", frequency: "0.0",
		truncation: `"disabled"`, user: "null", metadata: "{}",
	}
}

func (o *respEcho) read(body []byte) {
	fields := map[string]*string{
		"instructions": &o.instructions, "max_output_tokens": &o.maxOutputTokens, "max_tool_calls": &o.maxToolCalls,
		"parallel_tool_calls": &o.parallelToolCalls, "prompt_cache_key": &o.promptCacheKey,
		"prompt_cache_retention": &o.promptCacheRetention, "safety_identifier": &o.safetyIdentifier,
		"service_tier": &o.serviceTier, "temperature": &o.temperature, "tool_choice": &o.toolChoice,
		"top_logprobs": &o.topLogprobs, "top_p": &o.topP, "presence_penalty": &o.presence,
		"frequency_penalty": &o.frequency, "truncation": &o.truncation, "user": &o.user, "metadata": &o.metadata,
		"tools": &o.tools, "version": &o.version,
	}
	gjson.Parse(viewString(body)).ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		key := k.String()
		switch f := fields[key]; {
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

// newRespSkeleton prepares the object of one answer. version is a member of the
// Cognipeer dialect.
func newRespSkeleton(id, model string, created int64, echo *respEcho) *respSkeleton {
	o := &respSkeleton{}
	o.head = append(o.head, `{"id":`...)
	o.head = jsonx.AppendStringS(o.head, id)
	o.head = append(o.head, `,"object":"response","created_at":`...)
	o.head = strconv.AppendInt(o.head, created, 10)
	o.head = append(o.head, `,"completed_at":`...)

	raw := func(dst []byte, key, value string) []byte {
		dst = append(append(append(dst, `,"`...), key...), `":`...)
		return respAppendJSON(dst, viewBytes(value))
	}
	o.mid = raw(o.mid, "instructions", echo.instructions)
	o.mid = raw(o.mid, "max_output_tokens", echo.maxOutputTokens)
	o.mid = raw(o.mid, "max_tool_calls", echo.maxToolCalls)
	o.mid = append(o.mid, `,"model":`...)
	o.mid = jsonx.AppendStringS(o.mid, model)
	o.mid = append(o.mid, `,"output":[`...)

	o.tail = append(o.tail, ']')
	o.tail = raw(o.tail, "parallel_tool_calls", echo.parallelToolCalls)
	o.tail = append(o.tail, `,"previous_response_id":null`...)
	o.tail = raw(o.tail, "prompt_cache_key", echo.promptCacheKey)
	if echo.promptCacheRetention != "" {
		o.tail = raw(o.tail, "prompt_cache_retention", echo.promptCacheRetention)
	}
	o.tail = append(o.tail, `,"reasoning":{"effort":`...)
	o.tail = respAppendJSON(o.tail, viewBytes(echo.effort))
	o.tail = raw(o.tail, "summary", echo.summary)
	o.tail = append(o.tail, '}')
	o.tail = raw(o.tail, "safety_identifier", echo.safetyIdentifier)
	o.tail = raw(o.tail, "service_tier", echo.serviceTier)
	// Nothing is stored until conversations exist, whatever was asked for.
	o.tail = append(o.tail, `,"store":false`...)
	o.tail = raw(o.tail, "temperature", echo.temperature)
	o.tail = append(o.tail, `,"text":{"format":`...)
	o.tail = respAppendJSON(o.tail, viewBytes(echo.format))
	if echo.verbosity != "" {
		o.tail = raw(o.tail, "verbosity", echo.verbosity)
	}
	o.tail = append(o.tail, '}')
	o.tail = raw(o.tail, "tool_choice", echo.toolChoice)
	o.tail = append(o.tail, `,"tools":`...)
	o.tail = appendEchoedTools(o.tail, echo.tools)
	o.tail = raw(o.tail, "top_logprobs", echo.topLogprobs)
	o.tail = raw(o.tail, "top_p", echo.topP)
	o.tail = raw(o.tail, "presence_penalty", echo.presence)
	o.tail = raw(o.tail, "frequency_penalty", echo.frequency)
	o.tail = raw(o.tail, "truncation", echo.truncation)
	o.tail = append(o.tail, `,"usage":`...)

	o.last = raw(o.last, "user", echo.user)
	o.last = raw(o.last, "metadata", echo.metadata)
	if echo.version != "" {
		o.last = raw(o.last, "version", echo.version)
	}
	o.last = append(o.last, '}')
	return o
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
	dst = append(append(append(dst, `,"status":"`...), status...), `","background":false,"error":`...)
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
	dst = append(dst, o.tail...)
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
	count(`,"cache_write_tokens":`, 0)
	count(`},"output_tokens":`, u.Output)
	count(`,"output_tokens_details":{"reasoning_tokens":`, u.Reasoning)
	count(`},"total_tokens":`, u.Sum())
	return append(dst, '}')
}
