package gate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

const backendOpsHeader = `"backend_name","op_name","op_params","test_mode","supported","error_message","backend_reg_name"` + "\n"

func backendOpsRow(op, params string, supported bool, message string) string {
	backend, yes := "CPU", 1
	if !supported {
		backend, yes, message = BufferType, 0, "not supported"
	}
	return fmt.Sprintf("%q,%q,%q,\"test\",\"%d\",%q,\"\"\n", backend, op, params, yes, message)
}

// fakeOperators is zt-selftest and the programs of UpstreamTests with the given fault.
func fakeOperators(program string, args []string, fault string) error {
	switch program {
	case "zt-selftest":
		if slices.Contains(args, "pages") {
			return fakePages(fault)
		}
		failed, passed := 0, 48
		switch fault {
		case "wrong bits":
			failed, passed = 1, 47
			fmt.Fprintln(os.Stderr, "FAIL q8_0 GET_ROWS: 33 x 64\nFAIL q8_0 MUL_MAT: 17 x 32, 2 threads")
		case "short self test":
			passed = 20
		}
		fmt.Println(`{"seed":7}`)
		for _, c := range claims {
			if c == (claim{"MUL_MAT", "q8_0"}) {
				fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":%d,\"failed\":%d}\n", c.weights, c.op, passed, failed)
			} else if fault != "a type without a self test" || c.weights != "iq3_s" {
				fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":48,\"failed\":0}\n", c.weights, c.op)
			}
		}
		for _, check := range threadChecks {
			if fault != "threads without a self test" || check != "plan" {
				fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":6,\"failed\":0}\n", threadsType, check)
			}
		}
		for _, t := range codedTypes {
			for _, check := range encoderChecks {
				switch {
				case fault == "a coded type without a self test" && t == "f16":
				case fault == "lost weights" && t == "f32" && check == "coded round trip":
					fmt.Fprintln(os.Stderr, "FAIL f32 coded round trip: 1 x 17 x 192 NaNs, ZT_CODE=11")
					fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":60,\"failed\":2}\n", t, check)
					failed = 2
				default:
					fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":60,\"failed\":0}\n", t, check)
				}
			}
		}
		for _, t := range codedTypes {
			for _, check := range []string{"MUL_MAT", "MUL_MAT_ID", "GET_ROWS", "round trip"} {
				if fault != "coded rows without a self test" || t != "bf16" || check != "GET_ROWS" {
					fmt.Printf("{\"type\":%q,\"check\":%q,\"passed\":15,\"failed\":0}\n", t, check)
				}
			}
		}
		if failed > 0 || fault == "self test ends badly" {
			return errors.New("exit")
		}
		return nil
	case "test-export-graph-ops":
		return os.WriteFile(args[slices.Index(args, "-o")+1], []byte("29 0 ..."), 0o644)
	}
	fmt.Print(backendOpsHeader)
	graph := slices.Contains(args, "--test-file")
	if graph {
		for range 2 {
			fmt.Print(backendOpsRow("MUL_MAT", "name=Qcur-0,type=f32,ne=[160,1,1,1],op_params=[],sources=q8_0[160,160,1,1],f32[160,1,1,1]", true, ""))
			fmt.Print(backendOpsRow("GET_ROWS", "name=embd,type=f32,ne=[160,1,1,1],op_params=[],sources=q8_0[160,9,1,1],i32[1,1,1,1]", fault != "rows on stock's path", ""))
			fmt.Print(backendOpsRow("GET_ROWS", "name=node_1,type=f32,ne=[160,1,1,1],op_params=[],sources=f32[160,1,1,1],i32[1,1,1,1]", false, ""))
		}
		return nil
	}
	if slices.Contains(args, CodedBufferType) {
		for _, t := range codedTypes {
			for i := range 4 {
				params := fmt.Sprintf("type_a=%s,type_b=f32,m=16,n=%d,k=256", t, i)
				fmt.Print(backendOpsRow("MUL_MAT", params, fault != "claims too little of coded weights" || t != "f16", ""))
				message := ""
				if fault == "wrong operator of coded weights" && t == "f32" && i == 2 {
					message = "test failed"
				}
				fmt.Print(backendOpsRow("MUL_MAT_ID", params, true, message))
			}
		}
		if fault == "wrong operator of coded weights" {
			return errors.New("exit")
		}
		return nil
	}
	for _, c := range claims {
		for i := range c.cases() {
			params := fmt.Sprintf("type_a=%s,type_b=f32,m=16,n=%d,k=256", c.weights, i)
			message, here := "", c == claim{"MUL_MAT", "q8_0"} && i == 5
			if fault == "wrong operator" && here {
				fmt.Print("[MUL_MAT] ERR = 0.007 > 0.000500000 ")
				message = "test failed"
			}
			fmt.Print(backendOpsRow(c.op, params, fault != "claims too little" || !here, message))
		}
	}
	fmt.Print(backendOpsRow("MUL_MAT", "type_a=q1_0,type_b=f32,m=16,n=1,k=256", false, ""))
	fmt.Print(backendOpsRow("GET_ROWS", "type=q8_0,n=256,m=5,r=4", false, ""))
	if fault == "wrong operator" || fault == "upstream's tests end badly" {
		return errors.New("exit")
	}
	return nil
}

// fakePages is zt-selftest that examines pages.
func fakePages(fault string) error {
	for _, check := range slices.Concat(pageChecks, poolChecks) {
		switch {
		case fault == "pages without a self test" && check == "double free":
		case fault == "no pool" && check == "race for the pool":
			fmt.Printf("{\"type\":\"pages\",\"check\":%q,\"skipped\":\"changing the huge page pool needs root\"}\n", check)
		case fault == "sizes skipped" && check == "sizes":
			fmt.Printf("{\"type\":\"pages\",\"check\":%q,\"skipped\":\"no time\"}\n", check)
		case fault == "lost pages" && check == "cycles":
			fmt.Fprintln(os.Stderr, "FAIL pages cycles: the pool's counters are as they were")
			fmt.Printf("{\"type\":\"pages\",\"check\":%q,\"passed\":50,\"failed\":1}\n", check)
		default:
			fmt.Printf("{\"type\":\"pages\",\"check\":%q,\"passed\":50,\"failed\":0}\n", check)
		}
	}
	if fault == "lost pages" {
		return errors.New("exit")
	}
	return nil
}

func TestOperatorGates(t *testing.T) {
	model := Model{Name: "tiny", Path: writeModel(t, true), Operators: true}
	for _, c := range []struct {
		fault string
		want  []string // in the error; none if all gates hold
	}{
		{"", nil},
		{"wrong bits", []string{"zt-selftest q8_0 MUL_MAT failed checks is 1, not at most 0"}},
		{"short self test", []string{"zt-selftest q8_0 MUL_MAT checks is 20, not at least 32"}},
		{"a type without a self test", []string{"zt-selftest iq3_s MUL_MAT_ID checks is 0, not at least 32"}},
		{"lost weights", []string{"zt-selftest f32 coded round trip failed checks is 2, not at most 0"}},
		{"threads without a self test", []string{"zt-selftest threads plan checks is 0, not at least 6"}},
		{"a coded type without a self test", []string{"zt-selftest f16 coded round trip checks is 0, not at least 48", "zt-selftest f16 coded faults checks is 0"}},
		{"coded rows without a self test", []string{"zt-selftest bf16 GET_ROWS checks is 0, not at least 15"}},
		{"claims too little of coded weights", []string{"test-backend-ops coded f16 MUL_MAT tests is 0, not at least 4"}},
		{"wrong operator of coded weights", []string{"test-backend-ops coded f32 MUL_MAT_ID failed tests is 1, not at most 0"}},
		{"no pool", nil},
		{"pages without a self test", []string{"zt-selftest pages double free checks is 0, not at least 4"}},
		{"sizes skipped", []string{"zt-selftest pages sizes checks is 0, not at least 4"}},
		{"lost pages", []string{"zt-selftest pages cycles failed checks is 1, not at most 0"}},
		{"self test ends badly", []string{"tuned zt-selftest", "exit"}},
		{"wrong operator", []string{"test-backend-ops q8_0 MUL_MAT failed tests is 1, not at most 0"}},
		{"claims too little", []string{"test-backend-ops q8_0 MUL_MAT tests is 20, not at least 21"}},
		{"upstream's tests end badly", []string{"tuned test-backend-ops", "exit"}},
		{"rows on stock's path", []string{
			"tiny its graph's q8_0 GET_ROWS tests is 0, not at least 2", "tiny its graph's q8_0 GET_ROWS unsupported tests is 2, not at most 0"}},
		{"crash in test-export-graph-ops", []string{"tuned test-export-graph-ops", "out of cheese"}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			r, _, err := verify(t, "", c.fault, model, Options{AccuracyOnly: true, Threads: 2})
			if (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v; want %q in it", err, want)
				}
			}
			for _, x := range r.Results {
				if x.Part != "operators" && x.Part != "shapes" {
					t.Errorf("%s belongs to %s", x.Name(), x.Part)
				}
				if c.fault == "wrong operator" && x.Verdict == "FAIL" && !strings.Contains(x.Note, "n=5,k=256): [MUL_MAT] ERR = 0.007") {
					t.Errorf("the note %q does not tell the failing test", x.Note)
				}
				if c.fault == "wrong bits" && x.Verdict == "FAIL" && x.Note != "seed 7, first: 17 x 32, 2 threads" {
					t.Errorf("the note is %q", x.Note)
				}
			}
		})
	}
}

// TestClaimsOf checks what the graph of a model must hold, by whether its embedding serves as output and whether it has experts.
func TestClaimsOf(t *testing.T) {
	for _, c := range []struct {
		typ  gguf.Type
		tied bool
		want []claim
	}{
		{gguf.Q8_0, true, []claim{{"MUL_MAT", "q8_0"}, {"GET_ROWS", "q8_0"}}},
		{gguf.Q4_0, false, []claim{{"MUL_MAT", "q4_0"}, {"GET_ROWS", "q4_0"}, {"MUL_MAT_ID", "q4_0"}}},
		{gguf.F16, true, nil},
	} {
		got, err := claimsOf(writeModelOf(t, c.typ, c.tied))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(c.want) {
			t.Errorf("%v: %v, want %v", c.typ, got, c.want)
		}
		for _, w := range c.want {
			if !slices.Contains(got, w) {
				t.Errorf("%v: %v lacks %v", c.typ, got, w)
			}
		}
	}
}

// TestParseBackendOps reads lines as the real program prints them, among them one with the message of a failed test in front.
func TestParseBackendOps(t *testing.T) {
	got, err := parseBackendOps([]byte(backendOpsHeader +
		`"CPU","MUL_MAT","type_a=q8_0,type_b=f32,m=16,n=1,k=256,bs=[1,1],nr=[1,1],per=[0,1,2,3],k_v=0,o=1,src_overlap=0","test","1","",""
[MUL_MAT] ERR = 0.031 > 0.000500000 "CPU","MUL_MAT","type_a=q8_0,type_b=f32,m=16,n=2,k=256,bs=[1,1],nr=[1,1]","test","1","test failed",""
"CPU, CPU","MUL_MAT","type_a=q8_0,type_b=f16,m=16,n=1,k=256","test","0","not supported",""
"CPU_ZEN5","MUL_MAT_ID","type_a=bf16,type_b=f32,n_mats=4,n_used=2,b=0,m=512,n=32,k=256,amax=1.000000","test","0","not supported",""
"CPU_ZEN5","GET_ROWS","type=iq4_nl,n=256,m=5,r=4,be1=1,be2=1,v=0,vs0=0,offset_cols=0","test","0","not supported",""
"CPU","GET_ROWS","name=embd,type=f32,ne=[160,512,1,1],op_params=[],sources=q8_0[160,50257,1,1],i32[512,1,1,1]","test","1","",""
`))
	if err != nil {
		t.Fatal(err)
	}
	want := testsByClaim{
		{"MUL_MAT", "q8_0"}: {run: 2, failed: 1, unsupported: 1,
			failure: "MUL_MAT(type_a=q8_0,type_b=f32,m=16,n=2,k=256,bs=[1,1],nr=[1,1]): [MUL_MAT] ERR = 0.031 > 0.000500000"},
		{"MUL_MAT_ID", "bf16"}: {unsupported: 1},
		{"GET_ROWS", "iq4_nl"}: {unsupported: 1},
		{"GET_ROWS", "q8_0"}:   {run: 1},
	}
	if len(got) != len(want) {
		t.Errorf("got %d operators and types, want %d", len(got), len(want))
	}
	for c, w := range want {
		if g := got[c]; g == nil || *g != *w {
			t.Errorf("%v: got %+v, want %+v", c, g, w)
		}
	}
	for name, text := range map[string]string{
		"no table":      "",
		"other columns": "\"op_name\",\"op_params\"\n",
		"a cut line":    backendOpsHeader + "\"CPU\",\"MUL_MAT\",\"type_a",
	} {
		if got, err := parseBackendOps([]byte(text)); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
}
