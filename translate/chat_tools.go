package translate

import "github.com/tidwall/gjson"

// decodeChatTools reads the tools on offer.
func decodeChatTools(r *Request, v gjson.Result) *Error {
	if err := anArray.check(v, At("tools")); err != nil {
		return err
	}
	var err *Error
	i := 0
	v.ForEach(func(_, t gjson.Result) bool {
		at := AtIndex("tools", i)
		i++
		if err = r.room(At("tools")); err != nil {
			return false
		}
		if err = anObject.check(t, at); err != nil {
			return false
		}
		if err = aString.checkMembers(t, at, "type"); err != nil {
			return false
		}
		tool := Tool{Raw: t.Raw, Path: at}
		switch typ := t.Get("type").String(); typ {
		case "function":
			err = decodeFunction(r, &tool, t.Get("function"), at.In("function"))
			r.rest(t, at, []string{"type", "function"}, chatHabits)
		case "custom":
			err = decodeCustom(r, &tool, t.Get("custom"), at.In("custom"))
			r.rest(t, at, []string{"type", "custom"}, chatHabits)
		case "":
			err = missing(at.In("type"))
		default:
			tool.Kind, tool.Name = ToolBuiltin, typ
		}
		if err != nil {
			return false
		}
		r.Tools = append(r.Tools, tool)
		return true
	})
	return err
}

// decodeFunction reads a function. Chat takes an absent strict for false, which
// an unset one says.
func decodeFunction(r *Request, t *Tool, f gjson.Result, at Path) *Error {
	if !f.Exists() {
		return missing(at)
	}
	if err := anObject.check(f, at); err != nil {
		return err
	}
	name := f.Get("name")
	if t.Name = name.String(); name.Type != gjson.String || t.Name == "" {
		return missing(at.In("name"))
	}
	if err := aString.checkMembers(f, at, "description"); err != nil {
		return err
	}
	t.Description = f.Get("description").String()
	r.rest(f, at, []string{"name", "description", "parameters", "strict"}, chatHabits)
	if s := f.Get("strict"); s.Exists() && s.Type != gjson.Null {
		if err := aBoolean.check(s, at.In("strict")); err != nil {
			return err
		}
		t.Strict = TriOf(s.Bool())
	}
	if p := f.Get("parameters"); p.Exists() && p.Type != gjson.Null {
		if err := anObject.check(p, at.In("parameters")); err != nil {
			return err
		}
		t.Parameters = p.Raw
	}
	return nil
}

func decodeCustom(r *Request, t *Tool, c gjson.Result, at Path) *Error {
	if !c.Exists() {
		return missing(at)
	}
	if err := anObject.check(c, at); err != nil {
		return err
	}
	t.Kind = ToolCustom
	name := c.Get("name")
	if t.Name = name.String(); name.Type != gjson.String || t.Name == "" {
		return missing(at.In("name"))
	}
	if err := aString.checkMembers(c, at, "description"); err != nil {
		return err
	}
	t.Description = c.Get("description").String()
	r.rest(c, at, []string{"name", "description", "format"}, chatHabits)
	if err := anObject.checkMembers(c, at, "format"); err != nil {
		return err
	}
	format := c.Get("format")
	if err := aString.checkMembers(format, at.In("format"), "type"); err != nil {
		return err
	}
	if err := anObject.checkMembers(format, at.In("format"), "grammar"); err != nil {
		return err
	}
	if err := aString.checkMembers(format.Get("grammar"), at.In("format.grammar"), "syntax", "definition"); err != nil {
		return err
	}
	t.Grammar = ToolGrammar{Type: format.Get("type").String(), Syntax: format.Get("grammar.syntax").String(),
		Definition: format.Get("grammar.definition").String()}
	switch t.Grammar.Type {
	case "", "text", "grammar":
		r.rest(format, at.In("format"), []string{"type", "grammar"}, nil)
		if g := format.Get("grammar"); g.IsObject() {
			r.rest(g, at.In("format.grammar"), []string{"syntax", "definition"}, nil)
		}
		return nil
	}
	return Invalid(at.In("format.type"), "'%s' must be text or grammar.", at.In("format.type"))
}

// decodeFunctions reads the deprecated functions.
func decodeFunctions(r *Request, v gjson.Result) *Error {
	if err := anArray.check(v, At("functions")); err != nil {
		return err
	}
	var err *Error
	i := 0
	v.ForEach(func(_, f gjson.Result) bool {
		tool := Tool{Raw: f.Raw, Path: AtIndex("functions", i)}
		i++
		if err = r.room(At("functions")); err != nil {
			return false
		}
		if err = decodeFunction(r, &tool, f, tool.Path); err == nil {
			r.Tools = append(r.Tools, tool)
		}
		return err == nil
	})
	return err
}

func decodeToolChoice(r *Request, v gjson.Result) *Error {
	at := At("tool_choice")
	c := ToolChoice{Path: at}
	if v.Type == gjson.String {
		switch v.String() {
		case "none":
			c.Mode = ChoiceNone
		case "auto":
			c.Mode = ChoiceAuto
		case "required":
			c.Mode = ChoiceRequired
		default:
			return Invalid(at, "'tool_choice' must be none, auto, required or an object.")
		}
		r.ToolChoice = c
		return nil
	}
	if !v.IsObject() {
		return Invalid(at, "'tool_choice' must be none, auto, required or an object.")
	}
	if err := aString.checkMembers(v, at, "type"); err != nil {
		return err
	}
	switch typ := v.Get("type").String(); typ {
	case "":
		return missing(at.In("type"))
	case "allowed_tools":
		c.Mode = ChoiceAllowed
		allowed := v.Get("allowed_tools")
		if err := anObject.check(allowed, at.In("allowed_tools")); err != nil {
			return err
		}
		r.rest(v, at, []string{"type", "allowed_tools"}, nil)
		r.rest(allowed, at.In("allowed_tools"), []string{"mode", "tools"}, nil)
		switch allowed.Get("mode").String() {
		case "auto":
		case "required":
			c.Forced = true
		default:
			return Invalid(at.In("allowed_tools.mode"), "'%s' must be auto or required.", at.In("allowed_tools.mode"))
		}
		list := at.In("allowed_tools.tools")
		if err := anArray.check(allowed.Get("tools"), list); err != nil {
			return err
		}
		var err *Error
		allowed.Get("tools").ForEach(func(_, t gjson.Result) bool {
			var kind ToolKind
			var name string
			if err = r.room(list); err != nil {
				return false
			}
			if kind, name, err = choiceTool(t, at.Sub("allowed_tools.tools", len(c.Tools))); err != nil {
				return false
			}
			if typ := t.Get("type").String(); kind != ToolBuiltin {
				r.rest(t, at, []string{"type", typ}, nil)
				r.rest(t.Get(typ), at, []string{"name"}, nil)
			}
			c.Tools = append(c.Tools, Tool{Kind: kind, Name: name, Raw: t.Raw, Path: at.Sub("allowed_tools.tools", len(c.Tools))})
			return true
		})
		if err != nil {
			return err
		}
	default:
		c.Mode = ChoiceNamed
		var err *Error
		if c.Kind, c.Name, err = choiceTool(v, at); err != nil {
			return err
		}
		if c.Kind != ToolBuiltin {
			r.rest(v, at, []string{"type", typ}, nil)
			r.rest(v.Get(typ), at.In(typ), []string{"name"}, nil)
		}
	}
	r.ToolChoice = c
	return nil
}

// choiceTool reads {"type":"function","function":{"name":…}}, the same of a
// custom tool, or {"type":…} of a built-in one.
func choiceTool(v gjson.Result, at Path) (ToolKind, string, *Error) {
	if err := anObject.check(v, at); err != nil {
		return 0, "", err
	}
	typ := v.Get("type")
	if typ.Type == gjson.Null || typ.Type == gjson.String && typ.Str == "" {
		return 0, "", missing(at.In("type"))
	}
	if err := aString.check(typ, at.In("type")); err != nil {
		return 0, "", err
	}
	kind := ToolFunction
	switch typ.Str {
	case "function":
	case "custom":
		kind = ToolCustom
	default:
		return ToolBuiltin, typ.String(), nil
	}
	body, at := v.Get(typ.Str), at.In(typ.Str)
	if body.Type == gjson.Null {
		return 0, "", missing(at.In("name"))
	}
	if err := anObject.check(body, at); err != nil {
		return 0, "", err
	}
	name := body.Get("name")
	if name.Type == gjson.Null || name.Type == gjson.String && name.Str == "" {
		return 0, "", missing(at.In("name"))
	}
	return kind, name.String(), aString.check(name, at.In("name"))
}

// decodeFunctionCall reads the deprecated function_call.
func decodeFunctionCall(r *Request, v gjson.Result) *Error {
	at := At("function_call")
	c := ToolChoice{Path: at}
	switch {
	case v.Type == gjson.String && v.Str == "none":
		c.Mode = ChoiceNone
	case v.Type == gjson.String && v.Str == "auto":
		c.Mode = ChoiceAuto
	case v.IsObject() && v.Get("name").Type == gjson.String:
		c.Mode, c.Name = ChoiceNamed, v.Get("name").String()
		r.rest(v, at, []string{"name"}, nil)
	case v.IsObject():
		if name := v.Get("name"); name.Type != gjson.Null {
			return aString.check(name, at.In("name"))
		}
		return missing(at.In("name"))
	default:
		return Invalid(at, "'function_call' must be none, auto or an object with a name.")
	}
	r.ToolChoice = c
	return nil
}

func decodeResponseFormat(r *Request, v gjson.Result) *Error {
	at := At("response_format")
	if err := anObject.check(v, at); err != nil {
		return err
	}
	f := Format{Path: at}
	r.rest(v, at, []string{"type", "json_schema"}, nil)
	switch typ := v.Get("type"); typ.String() {
	case "text":
		f.Kind = FormatText
	case "json_object":
		f.Kind = FormatJSONObject
	case "json_schema":
		f.Kind = FormatJSONSchema
		s := v.Get("json_schema")
		if err := anObject.check(s, at.In("json_schema")); err != nil {
			return err
		}
		r.rest(s, at.In("json_schema"), []string{"name", "description", "schema", "strict"}, nil)
		if err := aString.checkMembers(s, at.In("json_schema"), "name", "description"); err != nil {
			return err
		}
		f.Name, f.Description = s.Get("name").String(), s.Get("description").String()
		if f.Name == "" {
			return missing(at.In("json_schema.name"))
		}
		if schema := s.Get("schema"); schema.Type != gjson.Null {
			if err := anObject.check(schema, at.In("json_schema.schema")); err != nil {
				return err
			}
			f.Schema = schema.Raw
		}
		if strict := s.Get("strict"); strict.Type != gjson.Null {
			if err := aBoolean.check(strict, at.In("json_schema.strict")); err != nil {
				return err
			}
			f.Strict = TriOf(strict.Bool())
		}
	case "":
		return missing(at.In("type"))
	default: // a vendor's own (Fireworks' grammar, llama.cpp's)
		if err := aString.check(typ, at.In("type")); err != nil {
			return err
		}
		f.Kind, f.Name = FormatOther, typ.String()
	}
	r.Format = f
	return nil
}
