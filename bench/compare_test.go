package bench

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What llama-bench and llama-sweep-bench print, shortened.
var peerOutputs = map[string]string{
	"md": `| model                          |       size |     params | backend    | threads |          test |              t/s |
| ------------------------------ | ---------: | ---------: | ---------- | ------: | ------------: | ---------------: |
| llama ?B Q4_1                  | 120.79 MiB |   162.83 M | CPU        |       2 |          pp64 |   767.75 ± 22.65 |
| llama ?B Q4_1                  | 120.79 MiB |   162.83 M | CPU        |       2 |           tg8 |    155.77 ± 4.39 |
| llama ?B Q4_1                  | 120.79 MiB |   162.83 M | CPU        |       2 |     pp64+tg8 |   150.00 ± 1.00 |
| llama ?B Q4_1                  | 120.79 MiB |   162.83 M | CPU        |       2 |      tg8@pp64 |   142.51 ± 13.45 |

build: 8337e4cd3 (4840)
`,
	"csv": `build_commit,cuda,cpu_info,model_filename,model_type,n_threads,type_k,type_v,n_prompt,n_gen,test_time,avg_ns,stddev_ns,avg_ts,stddev_ts,test
"8337e4cd3","0","AMD EPYC","m.gguf","llama ?B Q4_1","2","f16","f16","64","0","2026-11-24T13:08:43Z","109375898","3321523","767.75","22.65","pp64"
"8337e4cd3","0","AMD EPYC","m.gguf","llama ?B Q4_1","2","f16","f16","0","8","2026-11-24T13:08:43Z","55296721","1680276","155.77","4.39","tg8"
"8337e4cd3","0","AMD EPYC","m.gguf","llama ?B Q4_1","2","f16","f16","64","8","2026-11-24T13:08:43Z","55296721","1680276","142.51","13.45","tg8@pp64"
`,
	"json": `[{"model_filename": "m.gguf", "n_threads": 2, "n_prompt": 64, "n_gen": 0, "avg_ts": 767.75, "stddev_ts": 22.65, "samples_ts": [ 767.75 ]},
{"model_filename": "m.gguf", "n_threads": 2, "n_prompt": 0, "n_gen": 8, "avg_ts": 155.77, "stddev_ts": 4.39},
{"model_filename": "m.gguf", "n_threads": 2, "n_prompt": 0, "n_gen": 8, "n_depth": 64, "avg_ts": 142.51, "stddev_ts": 13.45}]`,
	"sweep": `main: n_kv_max = 1024, n_batch = 2048

|    PP |     TG |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |
|-------|--------|--------|----------|----------|----------|----------|
|    64 |      8 |      0 |    0.343 |   767.75 |    0.495 |   155.77 |
|    64 |      8 |     64 |    0.343 |   700.00 |    0.495 |   142.51 |

llama_print_timings:        load time =      60.46 ms
`,
	"sweep jsonl": `loading
{"n_kv_max": 1024, "n_threads": 2, "pp": 64, "tg": 8, "n_kv": 0, "t_pp": 0.1, "speed_pp": 767.75, "t_tg": 1, "speed_tg": 155.77 }
{"n_kv_max": 1024, "n_threads": 2, "pp": 64, "tg": 8, "n_kv": 64, "t_pp": 0.1, "speed_pp": 700, "t_tg": 1, "speed_tg": 142.51 }
done
`,
}

func TestReadPeer(t *testing.T) {
	for form, text := range peerOutputs {
		rows, err := ReadPeer(form, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		speeds := map[string]string{}
		for _, r := range rows {
			speeds[r.Test] = fmt.Sprintf("%.2f ± %.2f", r.MedianTS, r.StddevTS)
			if !r.Foreign() || strings.HasPrefix(r.Mode, "llama-sweep") != strings.HasPrefix(form, "sweep") || r.Threads != 2 && form != "sweep" {
				t.Errorf("%s: %+v", form, r)
			}
		}
		for test, want := range map[string]string{"pp64": "767.75 ± 22.65", "tg8": "155.77 ± 4.39", "tg8 @ d64": "142.51 ± 13.45"} {
			if strings.HasPrefix(form, "sweep") {
				want, _, _ = strings.Cut(want, " ±")
				want += " ± 0.00"
			}
			if speeds[test] != want {
				t.Errorf("%s: %s %q, expected %q", form, test, speeds[test], want)
			}
		}
	}
	for _, text := range []string{"", "no table", "| a |\n|---|\n| b |\n", "[", "{", "build_commit\n"} {
		if rows, err := ReadPeer("f", []byte(text)); !errors.Is(err, ErrRows) || !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("%q: %d rows, %v", text, len(rows), err)
		}
	}
}

func FuzzReadPeer(f *testing.F) {
	for _, text := range peerOutputs {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := ReadPeer("f", data)
		if err == nil && len(rows) == 0 {
			t.Error("no rows and no error")
		}
		for _, r := range rows {
			if !(r.MedianTS > 0) || r.Tokens() <= 0 || r.Depth < 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A peer's row is compared with our plain decoding at nearly the same depth.
func TestBeside(t *testing.T) {
	ours := []Row{
		{Setting: Setting{Mode: Prefill, Prompt: 64}, MedianTS: 1535.5},
		{Setting: Setting{Mode: "plain", Gen: 8}, MedianTS: 311.54},
		{Setting: Setting{Mode: "auto", Gen: 8, Depth: 64}, MedianTS: 1},
		{Setting: Setting{Mode: "plain", Gen: 8, Depth: 1000}, MedianTS: 1},
	}
	peers, err := ReadPeer("f", []byte(peerOutputs["md"]))
	if err != nil {
		t.Fatal(err)
	}
	all := Beside(ours, peers)
	if len(all) != 7 || all[4].Ratio != 0.5 || all[5].Ratio != 0.5 || all[6].Ratio != 0 {
		t.Errorf("%+v", all)
	}
}
