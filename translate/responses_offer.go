package translate

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// respMinTokens is the least max_output_tokens that the API takes.
const respMinTokens = 16

// tools writes the tools on offer, and the choice among them.
func (w *respWriter) tools() *Error {
	r := w.r
	n := 0
	next := func() {
		if n == 0 {
			w.b = append(w.b, `,"tools":[`...)
		} else {
			w.b = append(w.b, ',')
		}
		n++
	}
	for i := range r.Tools {
		t := &r.Tools[i]
		if t.Kind == ToolBuiltin {
			if !w.own {
				return w.refuse(t.Path.In("type"))
			}
			next()
			w.b = respAppendJSON(w.b, viewBytes(t.Raw))
			continue
		}
		next()
		w.tool(t)
	}
	for i := range r.Settings {
		if s := &r.Settings[i]; s.Param == ParamWebSearch && !r.repeated(i) {
			next()
			r.Take(i)
			w.webSearch(s)
		}
	}
	if n > 0 {
		w.b = append(w.b, ']')
	}
	return w.toolChoice()
}

func (w *respWriter) tool(t *Tool) {
	kind := "function"
	if t.Kind == ToolCustom {
		kind = "custom"
	}
	w.b = append(append(append(w.b, `{"type":"`...), kind...), `","name":`...)
	w.b = jsonx.AppendStringS(w.b, t.Name)
	w.optional("description", t.Description)
	if t.Kind == ToolCustom {
		if t.Grammar.Type != "" {
			w.b = append(w.b, `,"format":{"type":`...)
			w.b = jsonx.AppendStringS(w.b, t.Grammar.Type)
			w.optional("syntax", t.Grammar.Syntax)
			w.optional("definition", t.Grammar.Definition)
			w.b = append(w.b, '}')
		}
		w.b = append(w.b, '}')
		return
	}
	w.b = append(w.b, `,"parameters":`...)
	if t.Parameters != "" {
		w.b = respAppendJSON(w.b, viewBytes(t.Parameters))
	} else {
		w.b = append(w.b, `{"type":"object","properties":{}}`...)
	}
	// Left out, strict would mean true here.
	switch {
	case t.Strict == Yes:
		w.b = append(w.b, `,"strict":true`...)
	case t.Strict == No || !t.StrictByDefault:
		w.b = append(w.b, `,"strict":false`...)
	}
	w.b = append(w.b, '}')
}

// webSearch writes Chat's web_search_options as the tool that the API has in
// their place.
func (w *respWriter) webSearch(s *Setting) {
	o := gjson.Parse(s.Raw)
	w.r.rest(o, s.Path, []string{"search_context_size", "user_location"}, nil)
	w.r.rest(o.Get("user_location"), s.Path.In("user_location"), []string{"type", "approximate"}, nil)
	w.r.rest(o.Get("user_location.approximate"), s.Path.In("user_location.approximate"), []string{"city", "country", "region", "timezone"}, nil)
	w.b = append(w.b, `{"type":"web_search"`...)
	w.optional("search_context_size", respText(o.Get("search_context_size")))
	if place := o.Get("user_location.approximate"); place.IsObject() {
		w.b = append(w.b, `,"user_location":{"type":"approximate"`...)
		for _, key := range [...]string{"city", "country", "region", "timezone"} {
			w.optional(key, respText(place.Get(key)))
		}
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, '}')
}

func (w *respWriter) toolChoice() *Error {
	c := &w.r.ToolChoice
	switch c.Mode {
	case ChoiceUnset:
	case ChoiceNone, ChoiceAuto, ChoiceRequired:
		w.b = append(append(append(w.b, `,"tool_choice":"`...), [...]string{
			ChoiceNone: "none", ChoiceAuto: "auto", ChoiceRequired: "required",
		}[c.Mode]...), '"')
	default:
		if w.own {
			// A choice of a built-in tool may hold more than its name.
			w.b = append(w.b, `,"tool_choice":`...)
			w.b = respAppendJSON(w.b, viewBytes(gjson.Get(viewString(w.r.Body), "tool_choice").Raw))
			return nil
		}
		if c.Mode == ChoiceNamed {
			if c.Kind == ToolBuiltin {
				return w.refuse(c.Path)
			}
			w.b = append(w.b, `,"tool_choice":`...)
			w.named(c.Kind, c.Name)
			return nil
		}
		w.b = append(w.b, `,"tool_choice":{"type":"allowed_tools","mode":"`...)
		mode := "auto"
		if c.Forced {
			mode = "required"
		}
		w.b = append(append(w.b, mode...), `","tools":[`...)
		for i := range c.Tools {
			if c.Tools[i].Kind == ToolBuiltin {
				return w.refuse(c.Tools[i].Path)
			}
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.named(c.Tools[i].Kind, c.Tools[i].Name)
		}
		w.b = append(w.b, "]}"...)
	}
	return nil
}

func (w *respWriter) named(k ToolKind, name string) {
	kind := "function"
	if k == ToolCustom {
		kind = "custom"
	}
	w.b = append(append(append(w.b, `{"type":"`...), kind...), `","name":`...)
	w.b = jsonx.AppendStringS(w.b, name)
	w.b = append(w.b, '}')
}

// respNames are the settings that keep their meaning under a name of their own.
var respNames = [numParams]string{
	ParamTemperature:          "temperature",
	ParamTopP:                 "top_p",
	ParamTopLogprobs:          "top_logprobs",
	ParamUser:                 "user",
	ParamSafetyIdentifier:     "safety_identifier",
	ParamPromptCacheKey:       "prompt_cache_key",
	ParamPromptCacheRetention: "prompt_cache_retention",
	ParamPromptCacheOptions:   "prompt_cache_options",
	ParamServiceTier:          "service_tier",
	ParamMetadata:             "metadata",
	ParamParallelToolCalls:    "parallel_tool_calls",
	ParamModeration:           "moderation",
	ParamMaxToolCalls:         "max_tool_calls",
	ParamTruncation:           "truncation",
	ParamContextManagement:    "context_management",
	ParamPrompt:               "prompt",
}

func (w *respWriter) settings(stream bool) *Error {
	r := w.r
	var include, reasoning, text []byte
	for i := range r.Settings {
		s := &r.Settings[i]
		if r.repeated(i) {
			continue // written more than once: the last one counts
		}
		if name := respNames[s.Param]; name != "" {
			w.raw(name, r.Take(i))
			continue
		}
		switch s.Param {
		case ParamMaxTokens:
			raw := r.Take(i)
			if number(raw) < respMinTokens {
				// The limit that the client gets is not the one it set.
				r.Ledger.Drop(s.Path)
				raw = strconv.Itoa(respMinTokens)
			}
			w.raw("max_output_tokens", raw)
		case ParamFrequencyPenalty, ParamPresencePenalty:
			// Open Responses takes them, the vendor does not: they go where they
			// come from.
			switch {
			case !w.own:
			case s.Param == ParamFrequencyPenalty:
				w.raw("frequency_penalty", r.Take(i))
			default:
				w.raw("presence_penalty", r.Take(i))
			}
		case ParamN, ParamAudio:
			if r.idle(s) {
				continue
			}
			return w.refuse(s.Path)
		case ParamModalities:
			if strings.Contains(s.Raw, "audio") {
				return w.refuse(s.Path)
			}
		case ParamLogprobs:
			if r.Take(i) == "true" {
				include = respInclude(include, `"message.output_text.logprobs"`)
			}
		case ParamIncludeEncrypted:
			r.Take(i)
			include = respInclude(include, `"reasoning.encrypted_content"`)
		case ParamInclude:
			include = respInclude(include, r.Take(i))
		case ParamReasoningEffort:
			reasoning = respMember(reasoning, `"effort":`, r.Take(i))
		case ParamReasoningSummary:
			reasoning = respMember(reasoning, `"summary":`, r.Take(i))
		case ParamReasoningOther:
			raw := r.Take(i)
			reasoning = respMember(reasoning, "", raw[1:len(raw)-1])
		case ParamVerbosity:
			text = respMember(text, `"verbosity":`, r.Take(i))
		case ParamIncludeObfuscation:
			if raw := r.Take(i); stream {
				w.b = append(w.b, `,"stream_options":{"include_obfuscation":`...)
				w.b = respAppendJSON(w.b, viewBytes(raw))
				w.b = append(w.b, '}')
			}
		case ParamWebSearch: // is a tool
		}
	}
	if f := w.format(); f != nil {
		text = respMember(text, `"format":`, viewString(f))
	}
	if text != nil {
		w.b = append(append(append(w.b, `,"text":{`...), text...), '}')
	}
	if reasoning != nil {
		w.b = append(append(append(w.b, `,"reasoning":{`...), reasoning...), '}')
	}
	if include != nil {
		w.b = append(append(append(w.b, `,"include":[`...), include...), ']')
	}
	return nil
}

func (w *respWriter) raw(name, raw string) {
	w.b = append(append(append(w.b, `,"`...), name...), `":`...)
	w.b = respAppendJSON(w.b, viewBytes(raw))
}

func respInclude(list []byte, raw string) []byte {
	if list != nil {
		list = append(list, ',')
	}
	return respAppendJSON(list, viewBytes(raw))
}

func respMember(list []byte, key, raw string) []byte {
	if list != nil {
		list = append(list, ',')
	}
	return respAppendJSON(append(list, key...), viewBytes(raw))
}

func (w *respWriter) format() []byte {
	f := &w.r.Format
	switch f.Kind {
	case FormatText:
		return []byte(`{"type":"text"}`)
	case FormatJSONObject:
		return []byte(`{"type":"json_object"}`)
	case FormatJSONSchema:
		v := respWriter{b: []byte(`{"type":"json_schema"`)}
		v.optional("name", firstOf(f.Name, "answer"))
		v.optional("description", f.Description)
		v.raw("schema", firstOf(f.Schema, "{}"))
		switch f.Strict {
		case Yes:
			v.raw("strict", "true")
		case No:
			v.raw("strict", "false")
		}
		return append(v.b, '}')
	}
	return nil
}
