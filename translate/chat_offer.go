package translate

import (
	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// settings writes what is carried by value. What has no name in Chat is left to
// the ledger.
func (c *chatAsk) settings() {
	settings := c.r.Settings
	for i := range settings {
		s := &settings[i]
		if c.r.repeated(i) {
			continue
		}
		key := chatNames[s.Param]
		switch s.Param {
		case ParamN, ParamPrompt:
			c.refuse(s.Path)
			return
		case ParamMaxTokens:
			if c.openai {
				key = "max_completion_tokens"
			}
		case ParamTopLogprobs:
			// Chat takes it only together with logprobs.
			if on, _ := c.r.Setting(ParamLogprobs); on != "true" {
				continue
			}
		case ParamParallelToolCalls:
			if len(c.r.Tools) == 0 {
				continue // OpenAI refuses it without tools, where it means nothing
			}
		}
		if key == "" {
			continue // for the ledger
		}
		c.add(`,"`, key, `":`)
		c.dst = jsonx.AppendCompact(c.dst, viewBytes(c.r.Take(i)))
	}
}

func (c *chatAsk) tools() {
	for i := range c.r.Tools {
		t := &c.r.Tools[i]
		if i == 0 {
			c.add(`,"tools":[`)
		} else {
			c.add(`,`)
		}
		switch t.Kind {
		case ToolBuiltin:
			c.refuse(t.Path.In("type"))
			return
		case ToolCustom:
			c.add(`{"type":"custom","custom":{"name":`)
			c.dst = jsonx.AppendStringS(c.dst, t.Name)
			if t.Description != "" {
				c.member("description", t.Description)
			}
			switch t.Grammar.Type {
			case "text":
				c.add(`,"format":{"type":"text"}`)
			case "grammar":
				c.add(`,"format":{"type":"grammar","grammar":{"definition":`)
				c.dst = jsonx.AppendStringS(c.dst, t.Grammar.Definition)
				c.member("syntax", t.Grammar.Syntax)
				c.add(`}}`)
			}
			c.add(`}}`)
		default:
			c.add(`{"type":"function","function":{"name":`)
			c.dst = jsonx.AppendStringS(c.dst, t.Name)
			if t.Description != "" {
				c.member("description", t.Description)
			}
			if t.Parameters != "" {
				c.add(`,"parameters":`)
				c.dst = jsonx.AppendCompact(c.dst, viewBytes(t.Parameters))
			}
			switch c.strict(t) {
			case Yes:
				c.add(`,"strict":true`)
			case No:
				c.add(`,"strict":false`)
			}
			c.add(`}}`)
		}
	}
	if len(c.r.Tools) > 0 {
		c.add(`]`)
	}
}

// strict decides on a function's strict. Absent, it means false in Chat, but in
// the Responses API the schema is made strict: that holds here too where the
// schema is strict already, and is lost where it would have to be changed.
func (c *chatAsk) strict(t *Tool) Tri {
	if t.Strict != Unset || !t.StrictByDefault {
		return t.Strict
	}
	if schema := gjson.Parse(t.Parameters); schema.Get("type").String() == "object" && meetsStrict(schema) {
		return Yes
	}
	c.r.Ledger.Drop(t.Path.In("strict"))
	return Unset
}

// meetsStrict reports whether a schema keeps the rules of strict mode: every
// object closed, all its properties required, and none of the keywords that
// strict mode does not have.
func meetsStrict(s gjson.Result) bool {
	if !s.IsObject() {
		return true
	}
	for _, key := range [...]string{"allOf", "oneOf", "not", "if", "then", "else", "patternProperties", "propertyNames",
		"dependentRequired", "dependentSchemas", "prefixItems", "contains", "unevaluatedProperties", "unevaluatedItems"} {
		if s.Get(key).Exists() {
			return false
		}
	}
	ok := true
	props := s.Get("properties")
	if isObjectSchema(s.Get("type")) || props.Exists() {
		if s.Get("additionalProperties").Type != gjson.False {
			return false
		}
		required := map[string]bool{}
		s.Get("required").ForEach(func(_, v gjson.Result) bool {
			required[v.String()] = true
			return true
		})
		props.ForEach(func(k, _ gjson.Result) bool {
			ok = required[k.String()]
			return ok
		})
	}
	each := func(_, v gjson.Result) bool {
		ok = ok && meetsStrict(v)
		return ok
	}
	for _, key := range [...]string{"properties", "$defs", "definitions", "anyOf"} {
		s.Get(key).ForEach(each)
	}
	return ok && meetsStrict(s.Get("items"))
}

// isObjectSchema reports whether a schema's type, one or a list, is an object's.
func isObjectSchema(typ gjson.Result) bool {
	object := false
	typ.ForEach(func(_, t gjson.Result) bool { // once for a single one
		object = t.String() == "object"
		return !object
	})
	return object
}

func (c *chatAsk) toolChoice() {
	t := &c.r.ToolChoice
	if len(c.r.Tools) == 0 && !t.Forces() {
		return // OpenAI refuses a choice without tools, where it means nothing
	}
	switch t.Mode {
	case ChoiceNone:
		c.add(`,"tool_choice":"none"`)
	case ChoiceAuto:
		c.add(`,"tool_choice":"auto"`)
	case ChoiceRequired:
		c.add(`,"tool_choice":"required"`)
	case ChoiceNamed:
		c.add(`,"tool_choice":`)
		c.choiceTool(t.Kind, t.Name)
	case ChoiceAllowed:
		c.add(`,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"`)
		if t.Forced {
			c.add(`required`)
		} else {
			c.add(`auto`)
		}
		c.add(`","tools":[`)
		for i := range t.Tools {
			if i > 0 {
				c.add(`,`)
			}
			c.choiceTool(t.Tools[i].Kind, t.Tools[i].Name)
		}
		c.add(`]}}`)
	}
}

func (c *chatAsk) choiceTool(kind ToolKind, name string) {
	word := "function"
	switch kind {
	case ToolBuiltin:
		c.refuse(c.r.ToolChoice.Path)
		return
	case ToolCustom:
		word = "custom"
	}
	c.add(`{"type":"`, word, `","`, word, `":{"name":`)
	c.dst = jsonx.AppendStringS(c.dst, name)
	c.add(`}}`)
}

func (c *chatAsk) format() {
	f := &c.r.Format
	switch f.Kind {
	case FormatJSONObject:
		c.add(`,"response_format":{"type":"json_object"}`)
	case FormatJSONSchema:
		c.add(`,"response_format":{"type":"json_schema","json_schema":{"name":`)
		c.dst = jsonx.AppendStringS(c.dst, f.Name)
		if f.Description != "" {
			c.member("description", f.Description)
		}
		if f.Schema != "" {
			c.add(`,"schema":`)
			c.dst = jsonx.AppendCompact(c.dst, viewBytes(f.Schema))
		}
		switch f.Strict {
		case Yes:
			c.add(`,"strict":true`)
		case No:
			c.add(`,"strict":false`)
		}
		c.add(`}}`)
	}
}
