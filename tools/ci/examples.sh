#!/usr/bin/env bash
# Runs the examples on the bundled model and compares what must be equal.
set -euo pipefail
bin=${CARGO_TARGET_DIR:-target}/release/examples
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

generate() { "$bin/generate" --prompt "Once upon a time there was a king" -n 48 --seed 7 "$@"; }
generate >"$out/reference" 2>"$out/figures"
cat "$out/reference"
cat "$out/figures"
for isa in scalar x86_64-sse41 x86_64-avx2 x86_64-avxvnni x86_64-avx512 x86_64-avx512vnni x86_64-amx aarch64-neon aarch64-dotprod aarch64-i8mm; do
    for threads in 1 2; do
        if generate --isa "$isa" --threads "$threads" >"$out/text" 2>"$out/err"; then
            cmp "$out/reference" "$out/text"
            echo "$isa, $threads threads: the same text"
        elif grep -q "has no instruction set" "$out/err"; then
            echo "$isa: not on this CPU"
        else
            cat "$out/err"
            exit 1
        fi
    done
done

generate --lookup >"$out/text" 2>"$out/err"
cmp "$out/reference" "$out/text"
generate --draft-model assets/stories-8m.gguf >"$out/text" 2>"$out/err"
cmp "$out/reference" "$out/text"
grep -q "tokens per step" "$out/err"
echo "with drafts: the same text"

json() { python3 -c "import json,sys; o=json.loads(sys.stdin.read()); missing=set(sys.argv[1:])-o.keys(); sys.exit(f'lacks {missing}' if missing else 0)" "$@"; }
for order in ban,logit-bias,penalties,dry,top-k,typical-p,top-p,min-p,xtc,temperature \
    temperature,ban,xtc,typical-p,min-p,penalties,dry,logit-bias,top-p,top-k; do
    for isa in "" "--isa scalar --threads 2"; do
        # shellcheck disable=SC2086 # two words or none
        generate $isa --json --logprobs 2 --order "$order" --dry-multiplier 0.8 --xtc-probability 0.5 --typical-p 0.9 \
            --dynatemp-range 0.3 --logit-bias 20=0.5 --ban 11 |
            python3 -c "import json,sys; o=json.load(sys.stdin); print(o['text'], o['logprobs'])" >"$out/steps${isa:+.scalar}"
    done
    cmp "$out/steps" "$out/steps.scalar"
done
"$bin/generate" --order top-k,top-k 2>"$out/err" && { echo "a step was taken twice"; exit 1; }
grep -q "top-k twice" "$out/err"
generate --json | json text prompt_tokens tokens tokens_per_s isa threads stop_reason
"$bin/tokenize" --text "The king's daughter" --json | json ids
"$bin/perplexity" --file "$out/reference" --json | json tokens bytes nll_per_token perplexity bits_per_byte
"$bin/perplexity" --file "$out/reference" --json | json standard_error
printf '{"prompt": "The old king", "id": %s}\n' 1 2 3 4 5 >"$out/prompts"
for texts in 1 3; do
    "$bin/complete" "$out/prompts" "$out/completions-$texts" -n 16 --in-flight "$texts" --json |
        json prompts failed prompt_tokens tokens seconds tokens_per_s in_flight
    sort "$out/completions-$texts" -o "$out/completions-$texts"
done
cmp "$out/completions-1" "$out/completions-3"
[ "$(wc -l <"$out/completions-3")" = 5 ]
"$bin/json" --seed 3 | json name age kind wishes
"$bin/json" --regex '(yes|no), (s?he|it) [a-z]{1,9}\.' >"$out/text"
grep -Eqx '(yes|no), (s?he|it) [a-z]{1,9}\.' "$out/text"
printf 'start: "the " ("king" | "queen") " of " /[A-Z][a-z]{2,9}/\n' >"$out/lark"
"$bin/json" --lark "$out/lark" >"$out/text"
grep -Eqx 'the (king|queen) of [A-Z][a-z]{2,9}' "$out/text"
printf '{"type": "array", "items": {"type": "strin"}}' >"$out/schema"
"$bin/json" --schema "$out/schema" 2>"$out/err" && { echo "a wrong schema was taken"; exit 1; }
grep -q "at /items" "$out/err"
"$bin/embed_in_app" >"$out/stories"
grep -q '^\[max_tokens\] The old king' "$out/stories"
"$bin/logits" --tokens 1,2,3 --out "$out/logits"
"$bin/inspect" >"$out/inspect"
grep -q bitnet-b1.58 "$out/inspect"
"$bin/dummy" --shape 125m "$out/dummy.gguf"
"$bin/bench" --model "$out/dummy.gguf" -p 16 -n 4 --reps 1 --threads 1,2 --json |
    json isa read_gb_per_s int8_gmac_per_s load_s peak_rss_bytes weight_bytes bytes_per_token prefill decode
"$bin/convert" --to hf-packed --json assets/stories-8m.gguf "$out/packed" | json bytes write_s verify_s peak_rss_bytes
"$bin/convert" --to base3 "$out/packed" "$out/base3.gguf"
for model in packed base3.gguf; do
    generate --model "$out/$model" >"$out/text" 2>"$out/err"
    cmp "$out/reference" "$out/text"
done
"$bin/draft" -n 64 --reps 1 --json >/dev/null
"$bin/plot" --check
"$bin/hello" >"$out/hello"
"$bin/embed" --json 2>/dev/null | json query ranked
printf 'Tell me a story.\n/save %s\n/undo\n/undo\n' "$out/chat.json" | "$bin/chat" -n 16 >"$out/chat" 2>"$out/err"
grep -q "there is nothing to take back" "$out/err"
python3 -c "import json,sys; m=json.load(open(sys.argv[1])); sys.exit([x['role'] for x in m] != ['user', 'assistant'])" "$out/chat.json"
"$bin/chat" --model "$out/packed" </dev/null 2>"$out/err" && { echo "a chat template was guessed"; exit 1; }
grep -q "no chat template" "$out/err"
"$bin/generate" --model "$out/reference" 2>"$out/err" && { echo "a text file was taken for a model"; exit 1; }
cat "$out/err"
