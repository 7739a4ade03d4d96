package translate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// grammarRefused are texts that are not JSON, one or more for each way in which a
// parser may be too kind: the categories of the well-known suites, in words of our
// own.
var grammarRefused = map[string][]string{
	"array: no comma between elements":            {`[7 false]`, `["a" "b"]`, `[{} []]`, `[5[6]]`},
	"array: a byte that is not UTF-8":             {"[\xff]", "[b\xe9]", "[1\xc3]"},
	"array: colon or semicolon for a comma":       {`["k": 2]`, `[3;4]`, `[3:4]`},
	"array: a comma behind its end":               {`["a"],`, `[],`},
	"array: a comma too many":                     {`[,2]`, `[5,,6]`, `["q",,]`, `["q",]`, `[,]`, `[8,]`, `[8,,]`, `[ , "q"]`},
	"array: closed once too often":                {`["q"]]`, `[[]]]`},
	"array: not closed":                           {`["q"`, `[z`, `["q",`, "[\"q\",\n5\n,6,", "[5,\n6\n,7", `[{}`, `[[`, `[5,`, `["`},
	"array: a minus, a star":                      {`[-]`, `[*]`, `[5*6]`},
	"array: white space that JSON does not have":  {"[\"\vq\"\f]", "[\f]", "[\u00a0]", "[\u2060]", "[\u2028]", "[\ufeff1]", "[\u00851]", "[\b]"},
	"literals: cut, capital, longer":              {`[fal]`, `[nu]`, `[tr]`, `[True]`, `[FALSE]`, `[Null]`, `[nulls]`, `[truefalse]`, `[undefined]`, `[None]`, `true1`},
	"number: a byte behind it":                    {"456\x00", "45\xe9", "0\xe9", "1e5\xe9", "1e\xe9", `3@`, `-5y`, `-7.5bar`, `2.4b-5`, `1.5K-30`},
	"number: signs":                               {`[++5]`, `[+5]`, `[- 5]`, `[--5]`, `[-]`, `[-bar]`, `[5-]`, `[.-5]`},
	"number: words":                               {`[NaN]`, `[-NaN]`, `[Inf]`, `[+Inf]`, `[-Inf]`, `[Infinity]`, `[-Infinity]`, `[nan]`, `{"temperature":NaN}`, `{"n":Infinity}`},
	"number: zeros in front":                      {`[-05]`, `[05]`, `[00]`, `[-00]`, `[-056]`, `[00.5]`},
	"number: a point without digits":              {`[-5.]`, `[5.]`, `[.5]`, `[-.5]`, `[.5e-6]`, `[0.e5]`, `[5.e6]`, `[5.e+6]`, `[5.e-6]`, `[5.e+]`},
	"number: two points":                          {`[0.5.6]`, `[-5.0.]`},
	"number: an exponent without digits":          {`[0.5e]`, `[0.5e+]`, `[0E]`, `[0E+]`, `[0e]`, `[0e+]`, `[5.0e]`, `[5.0e-]`, `[5.0e+]`, `[5eE6]`, `[0e+-5]`, `[5eb]`, `[5e 6]`},
	"number: other ways to write one":             {`[5_000]`, `[0x5]`, `[0x5a]`, `[0b1]`, `[0o7]`, `[5+6]`, `[５]`, `[5n]`, `[5,6e]`, `[1'000]`},
	"object: what is no key":                      {`{[: "q"}`, `{5:6}`, `{7777E7777:5}`, `{null:null,null:null}`, `{key: "q"}`, `{'k':5}`, `{k: 'q'}`, `{🇩🇪}`, `{:"q"}`, `{true:5}`, `{{}:5}`},
	"object: no colon, two, another":              {`{"k", null}`, `{"k"::"q"}`, `{"k" q}`, `{"k" "q"}`, `{"k"`, `{"k"=5}`, `{"k";5}`},
	"object: no value":                            {`{"k":`, `{"k":}`, `{"k":,"l":5}`, `{"":`},
	"object: a comma too many":                    {`{"k":5,}`, `{"k":5,,,}`, `{"k":"q",,"l":"r"}`, `{,}`, `{,"k":5}`, "{\"\xb5\":\"5\",}"},
	"object: something between its members":       {`{"k":"q" 456}`, `{"k":"q" "l":5}`, `{ "k" : "q", "l" }`, `{"k":[5],"l"}`},
	"object: comments":                            {`{"k":"q"}/**/`, `{"k":"q"}/**//`, `{"k":"q"}//`, `{"k":"q"}/`, `{"k":/*word*/"q"}`, `{"k":"q"}#`, `{"k":"q"}#{}`, "//\n{}", "# x\n{}", `{<!-- x -->}`},
	"object: not closed":                          {`{`, `{"k":"q`, `{"k":"q"`, `{"k":5`, `{"k":5,`, `{"k":true,`, `{"k":{}`, `{"`, `{"k`},
	"object: words cut or wrong":                  {`{"k":truth}`, `["k", truth]`, `{"k":tru}`, `{"k":nul`},
	"string: escapes that are cut":                {`["\`, `["\"`, `["\"]`, `["\\\"]`, `["\u00B"]`, `["\uD835\uDe"]`, `["\uD801\"]`, `["\uD801\u"]`, `["\uD801\u2"]`, `["\uD801\u2y"]`, `["\u`, `["\u1`},
	"string: escapes that there are not":          {`["\b\x41"]`, `["\x00"]`, `["\a"]`, `["\v"]`, `["\'"]`, `["\0"]`, `["\U0001F600"]`, `"\UB77E"`, `["\uxyzt"]`, `["\u-123"]`, `["\u 123"]`, `["\u{41}"]`, `["\uD801\uD801\y"]`, `["\🌊"]`, "[\"\\\t\"]", "[\"\\\n\"]"},
	"string: a byte that is not UTF-8":            {"[\"\\u\xe9\"]", "[\"\\\xe9\"]", "[\"\xe9\"]", "[\"\xff\"]", "[\"\x80\"]"},
	"string: control characters":                  {"[\"b\x00b\"]", "[\"\\\x00\"]", "[\"two\nlines\"]", "[\"a\tb\"]", "[\"\x1f\"]", "[\"\r\"]", "{\"a\x01\":5}"},
	"string: other quotes, none, one":             {`['one']`, `[ä]`, `def`, `"`, `["def]`, `[\u0020"def"]`, `[\n]`, `[\u000B""]`, "[`a`]", `[“a”]`, `["a""b"]`},
	"string: something behind it":                 {`""y`, `"" ""`},
	"structure: brackets that do not match":       {`{]`, `[}`, `{}}`, `5]`, `]`, `}`, `[5]]`, `[][]`, `{}{}`, `{[`, `[{`, `({})`, `[{]}`},
	"structure: something behind it":              {`[5]y`, `{"k": true} "y"`, "{}\x00", `{} {}`, `{};`, "{}\n5", "[]\ufeff"},
	"structure: open":                             {`[`, `[,`, `['`, `["b`, `["b"`, `{,`, `{'b'`, `["\{["\{["\{`, `[5`, `[ true, nu`, `[ false, fal`, `[ true, tr`, "[\n"},
	"structure: other texts":                      {` `, "\t\n", `*`, `<.>`, `<null>`, `<html></html>`, "\xe9", `ö`, `bö`, `%`, `$`, `messages=x&model=y`, "--x\r\n", `---`, "model: x\n", "data: {}\n\n"},
	"structure: a byte order mark, a part of one": {"\xef\xbb\xbf", "\xef\xbb{}", "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}", "{\x00}\x00"},
	"structure: null bytes":                       {"[\x00]", "{\x00\"k\":5}", "\x00{}", "{\"k\":5\x00}"},
	"structure: deep":                             {strings.Repeat("[", 100000), strings.Repeat(`[{"":`, 50000), strings.Repeat(`{"k":`, 100000), strings.Repeat("[", 129) + strings.Repeat("]", 129)},
	"UTF-8: overlong":                             {"[\"\xc0\x80\"]", "[\"\xc1\xbf\"]", "[\"\xe0\x80\x80\"]", "[\"\xf0\x80\x80\x80\"]", "[\"\xc0\xaf\"]", "{\"\xc1\xad\":5}"},
	"UTF-8: encoded surrogates":                   {"[\"\xed\xa0\x80\"]", "[\"\xed\xa0\xbd\xed\xb8\x80\"]", "[\"\xed\xbf\xbf\"]"},
	"UTF-8: beyond Unicode":                       {"[\"\xf4\x90\x80\x80\"]", "[\"\xf5\x80\x80\x80\"]", "[\"\xf8\x88\x80\x80\x80\"]", "[\"\xfc\x84\x80\x80\x80\x80\"]"},
	"UTF-8: cut":                                  {"[\"\xe2\x82\"]", "[\"\xf0\x9f\x98\"]", "[\"\xc3\"]", "[\"\xe2\x28\xa1\"]", "{\"\xf0\x9f\":5}"},
}

// grammarTaken are JSON, however odd.
var grammarTaken = []string{
	// Arrays.
	`[]`, `[[]   ]`, `[""]`, `[ 5]`, `[5 ] `, "[5\n,6]", `[null, 5, "5", {}]`, `[false]`, `[5,null,null,null,6]`, " [] ", "[\r\n]", `[[[],[]],[]]`,
	// Numbers.
	`[567e76]`, `[0e+5]`, `[0e5]`, `[ 5]`, `[-0.000000000000000000000000000000000000000000000000000000000000000000000000000005]`, `[30e5]`, `[-0]`, `[-567]`, `[-5]`,
	`[5E33]`, `[5E-3]`, `[5E+3]`, `[567.456e76]`, `[5e-3]`, `[5e+3]`, `[567]`, `[567.456789]`, `[0]`, `[-0.0]`, `[5e00]`, `[0.0e-0]`,
	`[1e400]`, `[-1e400]`, `[1e-400]`, `[18446744073709551616]`, `[-9223372036854775809]`, `[123456789012345678901234567890]`, `[0.5e77777777777]`,
	// Objects.
	`{}`, `{"ksdf":"qwer", "dfg":"hjk"}`, `{"":0}`, `{"lmn\u0000op": 56}`, `{"min": -1.0e+29, "max": 1.0e+29 }`, `{"x":[{"id": "` + strings.Repeat("x", 50) + `"}], "id": "y"}`,
	`{"k":[]}`, "{\n\"k\": \"q\"\n}", `{"title":"\u041f\u043e\u043b" }`, `{"a":5,"b":{"a":5}}`,
	// Strings.
	`["\u0061\u30ab\u30EA\u30ad"]`, `["\ud802\udc37"]`, `["\ud84d\ude34\ud84a\udd6d"]`, `["\"\\\/\b\f\n\r\t"]`, `["\\u0000"]`, `["\""]`, `["a/*b*/c/*d//e"]`,
	`["\\a"]`, `["\\n"]`, `["\u0013"]`, `["\uFFFE"]`, "[\"\ufffe\"]", `["qwer"]`, `[ "qwer"]`, `["\uDBFF\uDFFE"]`, "[\"new\u00a0line\"]", "[\"\U0010ffff\"]", "[\"\uffff\"]",
	`["\u0000"]`, `["\u002d"]`, "[\"\u03c0\"]", "[\"qwer\x7f\"]", `["\u0821"]`, `["\u0124"]`, "[\"\u2028\"]", "[\"\u2029\"]", `["\u0063lmjkk7uiuikuj"]`, `["\u0022"]`,
	`["\u0B96\u0BB5"]`, `["\u005d"]`, `["\uD835\uDD2F"]`, "[\"\U0001b3a4\"]", "[\"\u20e3\"]", `["\u20EA"]`, "[\"\u20ea\"]", `["\u200B\u2064"]`, `["\uD83F\uDFFE"]`, "[\"\ufdd0\"]", `["\uFDD0"]`, "[\"€𝄟\"]", "[\"b\x7fb\"]",
	`["\u0822\u0164"]`, `["\uA77D"]`, "[\"\u2060\"]",
	// Halves of a pair, which no sentence of RFC 8259 forbids.
	`["\uD801"]`, `["\uDC01"]`, `["\uDC01\uD801"]`, `["\uD801\uD801"]`, `["\uD801q"]`, `["\uD801\n"]`, `["\uD801\u0031"]`, `{"\uDFAB":0}`,
	// Structure.
	"[true]\n", "\t[\"a\"] ", "\r\n[ ]", strings.Repeat("[", 128) + strings.Repeat("]", 128), strings.Repeat(`{"a":`, 127) + "{}" + strings.Repeat("}", 127), `["` + strings.Repeat("[{", 1000) + `"]`,
}

// grammarAlone are JSON, but no request of anybody's.
var grammarAlone = []string{`false`, `567`, `-0.5`, `null`, `"qwer"`, `true`, `""`, "\n5\n"}

func TestGateRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	n := 0
	for name, texts := range grammarRefused {
		for _, text := range texts {
			n++
			bodies := []string{text}
			if len(text) < 1000 && !strings.HasPrefix(text, "\xef\xbb\xbf") {
				bodies = append(bodies, `{"model":"m","messages":[{"role":"user","content":`+text+`}]}`, `{"model":"m","x":[`+text+`]}`)
			}
			for i, body := range bodies {
				if i > 0 && okInside(text) {
					continue
				}
				e := CheckBody([]byte(body))
				if e == nil {
					t.Errorf("%s: %.80q is taken", name, body)
					continue
				}
				if e.Status != 400 || e.Kind != KindInvalid || e.Code != "invalid_json" || !strings.Contains(e.Message, " at byte ") {
					t.Errorf("%s: %.80q: %+v names no place", name, body, e)
				}
				if i == 1 && !strings.HasPrefix(e.Param, "m") {
					t.Errorf("%s: %.80q: param %q", name, body, e.Param)
				}
				for _, p := range Protocols() {
					if out := p.AppendError(nil, e); !jsonx.Valid(out) || len(out) > 1024 {
						t.Fatalf("%s: %s: %.80q is told as %s", name, p.Name, body, out)
					}
				}
			}
		}
	}
	if n < 188 {
		t.Errorf("%d texts are fewer than there are known ways to be too kind", n)
	}
}

// okInside tells the texts that make a good document of one around them.
func okInside(text string) bool {
	return jsonx.Valid([]byte(`{"x":[`+text+`]}`)) || jsonx.Valid([]byte(`{"model":"m","messages":[{"role":"user","content":`+text+`}]}`))
}

func TestGateTakesAllJSON(t *testing.T) {
	t.Parallel()
	for _, text := range grammarTaken {
		if e := CheckBody([]byte(text)); e != nil {
			t.Errorf("%.80q: %v", text, e)
		}
		if len(text) < 100 {
			if e := CheckBody([]byte(`{"model":"m","x":` + text + `}`)); e != nil {
				t.Errorf("%.80q in an object: %v", text, e)
			}
		}
	}
	for _, text := range grammarAlone {
		if e := CheckBody([]byte(text)); e == nil || !strings.Contains(e.Message, "a JSON object is expected") {
			t.Errorf("%q: %v", text, e)
		}
		if e := CheckBody([]byte(`{"x":` + text + `}`)); e != nil {
			t.Errorf("%q in an object: %v", text, e)
		}
	}
}

func TestGateNamesThePlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, param, message string }{
		{`{"model":"m","model":"n"}`, "model", "a key stands there twice, the second time at byte 13, in 'model'"},
		{`{"model":"m","mod\u0065l":"n"}`, "model", "twice"},
		{`{"model":"m","Model":"n"}`, "Model", `a key at byte 13, in 'Model' differs from "model" only in case`},
		{`{"Model":"n"}`, "Model", "only in case"},
		{`{"model":"m","STREAM":true}`, "STREAM", "only in case"},
		{`{"\u004dessages":[]}`, "Messages", "only in case"},
		{`{"meſſages":[]}`, `["meſſages"]`, `differs from "messages" only in case`},
		{`{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","Role":"system","content":"b"}]}`, "messages[1].Role", `"role"`},
		{`{"tools":[{"type":"function","function":{"Name":"a","name":"b"}}]}`, "tools[0].function.Name", `"name"`},
		{`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"a","URL":"b"}}]}]}`, "messages[0].content[0].image_url.URL", `"url"`},
		{`{"agent_config":{"agent_name":"a","Agent_Name":"b"},"task":"x"}`, "agent_config.Agent_Name", `"agent_name"`},
		{`{"agent_config":{"Model_Name":"b"},"task":"x"}`, "agent_config.Model_Name", `"model_name"`},
		{`[{"task":"x"},{"task":"x","TASK":"y"}]`, "[1].TASK", `"task"`},
		{`{"history":[{"role":"user","content":"a","content":"b"}]}`, "history[0].content", "twice"},
		{`{"metadata":{"a":{"b":{"c":{"d":{"e":1,"e":2}}}}}}`, "metadata.a.b.c.d.e", "twice"},
		{"{\"messages\":[{\"role\":\"user\",\"content\":\"a\xffb\"}]}", "messages[0].content", "invalid UTF-8"},
		{`{"temperature":NaN}`, "temperature", "value expected at byte 15"},
		{`{"messages":[{"role":"user","content":"a"},]}`, "messages[1]", "value expected"},
		{`{"model":"m"} x`, "", "data after the value at byte 14."},
		{`{"x":` + strings.Repeat("[", 200), "x" + strings.Repeat("[0]", 31) + "…", "nested too deeply at byte 132"},
		{`{"model":"m"`, "model", "unexpected end of input at byte 12"},
	} {
		e := CheckBody([]byte(c.body))
		if e == nil || e.Param != c.param || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s: got %+v, want param %q and a message with %q", c.body, e, c.param, c.message)
		}
	}
	// What only looks like it.
	for _, body := range []string{
		`{"metadata":{"Model":1,"model":2}}`,
		`{"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"Name":{},"name":{}}}}}]}`,
		`{"text":{"format":{"type":"json_schema","schema":{"properties":{"Role":{},"role":{}}}}}}`,
		`{"messages":[{"role":"assistant","parts":[{"type":"widget","Name":"x","URL":"y"}]}]}`,
		`{"Unknown":1,"unknown":2,"userId":3,"modelName":4}`,
	} {
		if e := CheckBody([]byte(body)); e != nil {
			t.Errorf("%s: %v", body, e)
		}
	}
}

// The log gets no word of the client's.
func TestGateTellsTheLogNoKeys(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"CANARY":1,"CANARY":2}`, `{"CANARY":{"Role":1,"role":2}}`, `{"CANARY":nul}`, "{\"CANARY\":\"\xff\"}",
	} {
		e := CheckBody([]byte(body))
		if e == nil || !strings.Contains(e.Message, "CANARY") {
			t.Fatalf("%q: %v", body, e)
		}
		if s := e.Error(); strings.Contains(s, "CANARY") || !strings.Contains(s, " at byte ") {
			t.Errorf("%q: the log gets %s", body, s)
		}
	}
}

// FuzzCheckBody holds the gate to encoding/json: it takes nothing that is not
// JSON there.
func FuzzCheckBody(f *testing.F) {
	for _, texts := range grammarRefused {
		for _, s := range texts {
			if len(s) < 1000 {
				f.Add([]byte(s))
			}
		}
	}
	for _, s := range grammarTaken {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e := CheckBody(body)
		if e == nil {
			if err := stdlibReads(body); err != nil {
				t.Fatalf("%q is taken: %v", body, err)
			}
			return
		}
		if e.Status != 400 || len(e.Message) > 1024 || len(e.Param) > 1024 || strings.ContainsFunc(e.Param, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("%q: %+v", body, e)
		}
		if errors.Unwrap(e) != nil {
			t.Fatalf("%q: cause %v", body, e.Cause)
		}
		if want := CheckBody(append([]byte(" \n"), body...)); want == nil {
			t.Fatalf("%q is taken with white space in front", body)
		}
	})
}

// stdlibReads is encoding/json's verdict.
func stdlibReads(body []byte) error {
	var v any
	if !utf8.Valid(body) {
		return errors.New("not UTF-8")
	}
	if err := json.Unmarshal(body, &v); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) { // a number too large for it
		return err
	}
	return nil
}
