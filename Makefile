# intentd: one Makefile for both programs, their tests and their checks. `make help` lists the targets.
# Everything built goes to build/<flavour>/; a new source file, test or benchmark is found by its place and name.
#
# Variables: CC, CXX, V=1 (show commands), CI=true (warnings are errors), DATA (test data), DESTDIR, prefix,
#            INTENTD_SETUP=no (install nothing), FUZZ_SECONDS, TESTS="suite ..." (run only those suites)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += -rR
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

ifeq ($(origin CC),default)
CC := gcc
endif
CC ?= gcc
ifeq ($(filter-out default undefined,$(origin CXX)),)
CXX := $(if $(findstring clang,$(CC)),$(subst clang,clang++,$(CC)),$(subst gcc,g++,$(CC)))
endif
CLANG ?= $(firstword $(wildcard /usr/bin/clang-14 /usr/bin/clang) clang-14)
CLANG_TIDY ?= $(firstword $(wildcard /usr/bin/clang-tidy-14 /usr/bin/clang-tidy) clang-tidy-14)
CLANG_FORMAT ?= $(firstword $(wildcard /usr/bin/clang-format-14 /usr/bin/clang-format) clang-format-14)
DATA ?= ../shared/data
prefix ?= /usr/local
FUZZ_SECONDS ?= 60
ARCH := $(shell uname -m)
VERSION := 0.1.0
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $(2))

# ---- sources ------------------------------------------------------------------------------------------------------

core_src := $(wildcard $(foreach d,base num ad nn data fmt ann eval serve,core/$(d)/*.c))
core_cc := $(wildcard core/ann/*.cc)
kernel_src := $(filter core/num/k_%.c,$(core_src))
plain_src := $(filter-out $(kernel_src),$(core_src))
models_src := $(wildcard models/*.c)
server_src := $(wildcard server/*.c)
test_src := $(sort $(shell [ -d tests ] && find tests -name '*.c' -not -path 'tests/fuzz/*' -not -path 'tests/bench/*'))
suite_names := $(patsubst test_%.c,%,$(filter test_%.c,$(notdir $(test_src))))
helper_src := $(filter-out tests/run.c,$(foreach s,$(test_src),$(if $(filter test_%,$(notdir $(s))),,$(s))))
fuzz_names := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
bench_names := $(patsubst bench_%,%,$(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c)))
headers := $(sort $(shell find core models server tests -name '*.h' 2>/dev/null))
all_c := $(core_src) $(models_src) $(server_src) $(test_src) $(wildcard tests/fuzz/*.c tests/bench/*.c)

# Every kernel is compiled once per instruction set and picked at run time; `base` is the portable one.
isas := base
ifeq ($(ARCH),x86_64)
isas += v3 v4
endif
isa_flags_v3 := -march=x86-64-v3
isa_flags_v4 := -march=x86-64-v4 -mprefer-vector-width=512

# ---- flags --------------------------------------------------------------------------------------------------------

FAISS_CFLAGS := $(shell deploy/faiss/build.sh --cflags)
# FAISS's headers want omp.h, of which clang has none by itself.
FAISS_CLANG := -isystem deploy/faiss/clang
ifneq ($(findstring clang,$(CC)),)
FAISS_CFLAGS += $(FAISS_CLANG)
endif
FAISS_LIBS := $(shell deploy/faiss/build.sh --libs)

cpp_flags := -I. -D_GNU_SOURCE -DINTENT_VERSION='"$(VERSION)"' $(CPPFLAGS)
warn_both := -Wall -Wextra -Wshadow -Wvla -Wundef -Wwrite-strings -Wformat=2 -Wimplicit-fallthrough \
             -Wdouble-promotion -Wnull-dereference $(if $(filter true,$(CI)),-Werror)
warn_c := $(warn_both) -Wstrict-prototypes -Wmissing-prototypes
c_flags := -std=c17 -g -fPIE -pthread $(warn_c) $(CFLAGS)
cxx_flags := -std=c++17 -g -fPIE -pthread $(warn_both) $(CXXFLAGS)
num_flags := -fno-math-errno -fno-trapping-math -ffp-contract=fast
# Code that handles sizes from outside is compiled with -Wconversion as well.
conversion_dirs := server core/data core/fmt
# Check's comparisons of floats promote them.
dir_flags = $(if $(filter $(patsubst %/,%,$(dir $(1))),$(conversion_dirs)),-Wconversion) $(if $(filter tests/%,$(1)),-Wno-double-promotion)

flavours := release debug asan tsan cov
hardening := -fstack-protector-strong -fstack-clash-protection $(if $(filter x86_64,$(ARCH)),-fcf-protection)
flags_release := -O2 -D_FORTIFY_SOURCE=3 $(hardening)
flags_debug := -Og
flags_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
flags_tsan := -O1 -fno-omit-frame-pointer -fsanitize=thread
flags_cov := -O0 --coverage
flags_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
# Messages are cut at the end of their buffer on purpose; gcc alone has the warning.
$(if $(findstring clang,$(CC)),,$(foreach f,$(flavours),$(eval flags_$(f) += -Wno-format-truncation)))
# Under AddressSanitizer -O2 takes four times as long to compile a kernel as -O1.
num_opt_release := -O3
num_opt_debug := -Og
num_opt_asan := -O1
num_opt_tsan := -O1
num_opt_cov := -O0
num_opt_fuzz := -O1

link_flags := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)
libs := $(FAISS_LIBS) -ljansson -linih -lnettle -lz -lzstd -ldnnl -lroaring -llmdb $(if $(filter x86_64,$(ARCH)),-lmvec) -lm
server_libs := -lmicrohttpd
test_libs := -lcheck -lsubunit -lrt

# ---- one set of rules per flavour ---------------------------------------------------------------------------------

# $(1) flavour, $(2) C compiler, $(3) C++ compiler
define flavour
o_$(1) := build/$(1)/obj
core_obj_$(1) := $$(patsubst %.c,$$(o_$(1))/%.o,$(plain_src)) $$(patsubst %.cc,$$(o_$(1))/%.o,$(core_cc)) \
    $$(foreach isa,$(isas),$$(patsubst %.c,$$(o_$(1))/%.$$(isa).o,$(kernel_src)))
models_obj_$(1) := $$(patsubst %.c,$$(o_$(1))/%.o,$(models_src))
server_obj_$(1) := $$(patsubst %.c,$$(o_$(1))/%.o,$(server_src))
test_obj_$(1) := $$(patsubst %.c,$$(o_$(1))/%.o,$(test_src))
helper_obj_$(1) := $$(patsubst %.c,$$(o_$(1))/%.o,$(helper_src))

# Tests and benchmarks see both programs' code as archives: their main() stays out.
libs_$(1) := build/$(1)/libserver.a build/$(1)/libmodels.a build/$(1)/libcore.a
build/$(1)/libcore.a: $$(core_obj_$(1))
build/$(1)/libmodels.a: $$(models_obj_$(1))
build/$(1)/libserver.a: $$(server_obj_$(1))
build/$(1)/libtests.a: $$(helper_obj_$(1))
build/$(1)/%.a:
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^

build/$(1)/intent: $$(models_obj_$(1)) build/$(1)/libcore.a
	$$(call say,LINK,$$@)
	$$(Q)$(3) $$(flags_$(1)) $$(link_flags) -o $$@ $$^ $$(libs)

build/$(1)/intentd: $$(server_obj_$(1)) build/$(1)/libcore.a
	$$(call say,LINK,$$@)
	$$(Q)$(3) $$(flags_$(1)) $$(link_flags) -o $$@ $$^ $$(server_libs) $$(libs)

build/$(1)/run_tests: $$(test_obj_$(1)) $$(libs_$(1))
	$$(call say,LINK,$$@)
	$$(Q)$(3) $$(flags_$(1)) $$(link_flags) -o $$@ $$^ $$(test_libs) $$(server_libs) $$(libs)

$$(o_$(1))/%.o: %.c Makefile | setup
	$$(call say,CC,$$<)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$(2) $$(cpp_flags) $$(c_flags) $$(call dir_flags,$$<) $$(flags_$(1)) -MMD -MP -c -o $$@ $$<

$$(o_$(1))/%.o: %.cc Makefile | setup
	$$(call say,CXX,$$<)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$(3) $$(cpp_flags) $$(FAISS_CFLAGS) $$(cxx_flags) $$(flags_$(1)) -MMD -MP -c -o $$@ $$<

$$(o_$(1))/core/ann/%.o: c_flags += $$(FAISS_CFLAGS)

$$(o_$(1))/core/num/%.o: core/num/%.c Makefile | setup
	$$(call say,CC,$$<)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$(2) $$(cpp_flags) $$(c_flags) $$(flags_$(1)) $$(num_opt_$(1)) $$(num_flags) -MMD -MP -c -o $$@ $$<

$$(foreach isa,$(isas),$$(eval $$(call kernel,$(1),$$(isa),$(2))))

$$(o_$(1))/tests/run.o: build/$(1)/gen/suites.h
$$(o_$(1))/tests/run.o: cpp_flags += -Ibuild/$(1)/gen

# The list of suites is made from file names, and only touched when it changes.
build/$(1)/gen/suites.h: FORCE
	@mkdir -p $$(@D)
	@printf 'SUITE(%s)\n' $(suite_names) >$$@.new
	@cmp -s $$@.new $$@ && rm $$@.new || mv $$@.new $$@

-include $$(wildcard $$(patsubst %.o,%.d,$$(core_obj_$(1)) $$(models_obj_$(1)) $$(server_obj_$(1)) $$(test_obj_$(1))))
-include $$(wildcard $$(o_$(1))/tests/fuzz/*.d $$(o_$(1))/tests/bench/*.d)
endef

# No fuzzed parser calls a kernel, and clang takes minutes to instrument their unrolled loops.
kernel_flags = $(if $(filter fuzz,$(1)),,$(flags_$(1)))

# $(1) flavour, $(2) instruction set, $(3) C compiler
define kernel
$$(o_$(1))/core/num/%.$(2).o: core/num/%.c Makefile | setup
	$$(call say,CC,'$$< ($(2))')
	$$(Q)mkdir -p $$(@D)
	$$(Q)$(3) $$(cpp_flags) $$(c_flags) $$(call kernel_flags,$(1)) $$(num_opt_$(1)) $$(num_flags) -DNUM_ISA=$(2) $$(isa_flags_$(2)) -MMD -MP -c -o $$@ $$<
endef

$(foreach f,$(flavours),$(eval $(call flavour,$(f),$(CC),$(CXX))))
$(eval $(call flavour,fuzz,$(CLANG),$(subst clang,clang++,$(CLANG)) $(FAISS_CLANG)))

# Object files named only by pattern rules would be deleted as intermediate.
.SECONDARY:
.PHONY: FORCE
FORCE:

# ---- set-up -------------------------------------------------------------------------------------------------------

# Package groups by goal; `build` is what compiling needs.
setup_groups := build $(if $(filter demo,$(MAKECMDGOALS)),demo) \
    $(if $(filter test tsan cov bench bench-check bench-record lint resume-kills build/%/run_tests,$(MAKECMDGOALS)),test) \
    $(if $(filter lint headers tidy clang-check cppcheck format format-check,$(MAKECMDGOALS)),lint) \
    $(if $(filter fuzz,$(MAKECMDGOALS)),fuzz) $(if $(filter bench bench-serve,$(MAKECMDGOALS)),bench)

.PHONY: setup
setup:
	@deploy/setup.sh $(setup_groups)

# ---- targets ------------------------------------------------------------------------------------------------------

.PHONY: all debug test tsan fuzz bench bench-serve bench-train bench-check bench-record lint tidy cppcheck depcheck headers clang-check format format-check cov \
        vectors demo resume-kills store-kills planted extend-check import-check image install uninstall clean help

programs = $(if $(models_src),build/$(1)/intent) $(if $(server_src),build/$(1)/intentd)

all: $(call programs,release) ## build/release/intent and build/release/intentd (with debug symbols)

debug: $(call programs,debug) ## the same without optimisation, in build/debug/

export DATA
# Not detect_stack_use_after_return: gcc 12 misaligns 64-byte vectors on its stack (GCC PR 110027).
test_env := CK_FORK=no OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 \
    ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    TSAN_OPTIONS=halt_on_error=1

# 200 trainings, each killed up to three times: minutes
resume-kills: build/release/run_tests ## 200 trainings killed at random moments and resumed: all must end with the same bits
	$(Q)RESUME_KILLS=$${RESUME_KILLS:-200} $(test_env) build/release/run_tests train

store-kills: $(call programs,release) ## 1,000 daemons killed while items change: no acknowledged change may be lost; minutes
	$(Q)INTENT_BIN=$(CURDIR)/build/release/intent INTENTD_BIN=$(CURDIR)/build/release/intentd \
	    PYTHONDONTWRITEBYTECODE=1 python3 tests/e2e/kill_store.py $${STORE_KILLS:-1000}

planted: build/release/intent ## do 4 interests find 4 planted ones, and what do 8 do: ten minutes
	$(Q)tests/bench/planted.sh

extend-check: build/release/run_tests ## 10,000 histories appended to event by event beside encoding them anew: half a minute
	$(Q)EXTEND_SEQUENCES=10000 $(test_env) build/release/run_tests extend

# PYTHON_CHECK: a Python with PyTorch, and onnxruntime for what is exported
import-check: build/release/intent build/release/bench_states ## imported weights beside PyTorch, exported ones beside onnxruntime: minutes
	$(Q)$(or $(PYTHON_CHECK),/usr/bin/python3) tests/import/check.py var/import

replays := $(if $(wildcard tests/fuzz/replay.c),$(fuzz_names:%=build/asan/replay_%))
build/asan/replay_%: build/asan/obj/tests/fuzz/fuzz_%.o build/asan/obj/tests/fuzz/replay.o $(libs_asan)
	$(call say,LINK,$@)
	$(Q)$(CXX) $(flags_asan) $(link_flags) -o $@ $^ $(server_libs) $(libs)

test: build/asan/run_tests $(call programs,asan) $(replays) ## unit, replayed fuzz and end-to-end tests under ASan and UBSan
	$(Q)set -e; export $(test_env); \
	for name in $(if $(replays),$(fuzz_names)); do \
	    [ ! -d tests/fuzz/corpus/$$name ] || build/asan/replay_$$name tests/fuzz/corpus/$$name; \
	done; \
	build/asan/run_tests $(TESTS); \
	if [ -z '$(TESTS)' ] && ls tests/e2e/*.py >/dev/null 2>&1; then \
	    INTENT_BIN=$(CURDIR)/build/asan/intent INTENTD_BIN=$(CURDIR)/build/asan/intentd \
	    python3 -m unittest discover -s tests/e2e -p '*.py'; \
	fi

tsan: build/tsan/run_tests ## unit tests under ThreadSanitizer (TESTS="suite ..." for some)
	$(Q)$(test_env) build/tsan/run_tests $(TESTS)

build/fuzz/fuzz_%: build/fuzz/obj/tests/fuzz/fuzz_%.o $(libs_fuzz)
	$(call say,LINK,$@)
	$(Q)$(subst clang,clang++,$(CLANG)) -fsanitize=fuzzer,address,undefined $(link_flags) -o $@ $^ $(server_libs) $(libs)

fuzz: $(fuzz_names:%=build/fuzz/fuzz_%) ## libFuzzer on every parser, FUZZ_SECONDS each
	$(Q)set -e; for name in $(fuzz_names); do \
	    mkdir -p build/fuzz/found/$$name tests/fuzz/corpus/$$name; echo "fuzz_$$name, $(FUZZ_SECONDS) s"; \
	    build/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 \
	        -artifact_prefix=build/fuzz/found/$$name- build/fuzz/found/$$name tests/fuzz/corpus/$$name; \
	done

$(foreach n,$(bench_names),$(eval build/release/bench_$(n): build/release/obj/$(patsubst %.c,%.o,$(firstword $(wildcard tests/bench/bench_$(n).c tests/bench/$(n).c)))))
$(bench_names:%=build/release/bench_%): build/release/libtests.a $(libs_release)
	$(call say,LINK,$@)
	$(Q)$(CXX) $(flags_release) $(link_flags) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(test_libs) $(server_libs) $(libs)

bench: all $(bench_names:%=build/release/bench_%) ## kernels, encoder, search, daemon, training beside PyTorch: one table in minutes
	$(Q)tests/bench/bench.sh

# BUNDLE: a version directory; OUT: its figures as JSON; ARGS: see tests/bench/serve.py
bench-serve: all build/release/bench_load build/release/bench_encode ## the daemon beside FastAPI, PyTorch and FAISS: one table in a quarter of an hour
	$(Q)tests/bench/serve.py $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(OUT),--out $(OUT)) $(ARGS)

bench-train: build/release/intent ## where a training step's time goes, beside BLAS's rate and a memory copy's
	$(Q)tests/bench/bench_train.sh

bench-check: build/release/intent build/release/bench_ops ## fails when training lost more than 15 % of its rate beside BLAS's
	$(Q)tests/bench/bench_check.py
bench-record: build/release/intent build/release/bench_ops ## records the rates that bench-check compares with
	$(Q)tests/bench/bench_check.py --record

demo: all ## from MovieLens to a recommendation, in a few minutes
	$(Q)models/demo.sh

# ---- checks -------------------------------------------------------------------------------------------------------

lint: format-check depcheck headers clang-check tidy cppcheck ## static checks: includes, headers, clang warnings, clang-tidy, cppcheck

depcheck: ## includes follow the direction of CONTRIBUTING.md
	$(Q)awk -f deploy/depcheck.awk $(sort $(all_c) $(core_cc) $(headers))

lint_c_flags = $(cpp_flags) -std=c17 $(warn_c) -Werror $(FAISS_CFLAGS)

# Stamps, so that a second `make lint` looks only at what changed.
headers: $(headers:%=build/lint/%.ok) ## every header compiles alone
build/lint/%.h.ok: %.h Makefile | setup
	@mkdir -p $(@D)
	$(Q)echo '#include "$<"' | $(CLANG) $(lint_c_flags) $(if $(filter core/num/%,$<),-DNUM_ISA=base) -fsyntax-only -MMD -MP -MT $@ -MF $@.d -x c -
	@touch $@

clang-check: $(all_c:%=build/lint/%.clang) $(core_cc:%=build/lint/%.clang) ## everything compiles with clang without a warning
build/lint/%.c.clang: %.c Makefile | setup build/asan/gen/suites.h
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(lint_c_flags) $(call dir_flags,$<) $(if $(filter core/num/%,$<),-DNUM_ISA=base $(num_flags)) -Ibuild/asan/gen \
	    -fsyntax-only -MMD -MP -MT $@ -MT $(@:.clang=.tidy) -MF $@.d $<
	@touch $@
build/lint/%.cc.clang: %.cc Makefile | setup
	@mkdir -p $(@D)
	$(Q)$(CLANG) -std=c++17 $(cpp_flags) $(warn_both) -Werror $(FAISS_CFLAGS) $(FAISS_CLANG) -fsyntax-only -MMD -MP -MT $@ -MF $@.d $<
	@touch $@

tidy: $(all_c:%=build/lint/%.tidy) ## clang-tidy
build/lint/%.c.tidy: %.c .clang-tidy deploy/analyzer.h build/lint/%.c.clang
	$(call say,TIDY,$<)
	$(Q)$(CLANG_TIDY) --quiet $< -- -include deploy/analyzer.h $(lint_c_flags) $(call dir_flags,$<) $(if $(filter core/num/%,$<),-DNUM_ISA=base) -Ibuild/asan/gen >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

# Not core/num: cppcheck doesn't know gcc's vector types. jansson's loops are spelt out for it.
cppcheck_src := $(filter-out core/num/%,$(core_src)) $(models_src) $(server_src)
cppcheck: build/lint/cppcheck.ok ## cppcheck
build/lint/cppcheck.ok: $(cppcheck_src) $(headers) Makefile | setup
	$(call say,CPPCHECK,'core models server')
	@mkdir -p $(@D)
	$(Q)cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppress=missingIncludeSystem --suppress=arrayIndexThenCheck -j $$(nproc) -I. \
	    --include=deploy/cppcheck.h $(cppcheck_src)
	@touch $@

-include $(wildcard $(headers:%=build/lint/%.ok.d) $(all_c:%=build/lint/%.clang.d) $(core_cc:%=build/lint/%.clang.d))

# Kernels are laid out by hand: unrolled loops and tables of vector code.
format_files = $(filter-out core/num/k_% core/num/mm_tile.h core/num/simd.h core/num/drop.h,$(all_c) $(core_cc) $(headers))
format: | setup ## format every C file in place
	$(Q)$(CLANG_FORMAT) -i $(format_files)

format-check: | setup ## fail where `make format` would change something
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(format_files)

cov: build/cov/run_tests ## line coverage of the unit tests, file by file
	$(Q)find build/cov -name '*.gcda' -delete
	$(Q)$(test_env) build/cov/run_tests $(TESTS)
	$(Q)cd build/cov && find obj/core obj/models obj/server -name '*.gcda' 2>/dev/null | xargs gcov -n -s '$(CURDIR)' -r 2>/dev/null | \
	    awk -F"'" '/^File/ { f = $$2 } /^Lines executed/ { split($$0, p, /[:% ]+/); n = $$0; sub(/.*of /, "", n); \
	        if (f !~ /^tests|\.h$$/) { if (!(f in best) || p[3] + 0 > best[f] + 0) best[f] = p[3]; lines[f] = n }; f = "" } \
	        END { for (f in best) { printf "%6.1f%% of %5d  %s\n", best[f], lines[f], f | "sort -k4"; hit += best[f] * lines[f]; all += lines[f] } \
	        close("sort -k4"); if (all) printf "%6.1f%% of %5d  all\n", hit / all, all }'

vectors: ## make the golden vectors again (needs PyTorch)
	$(Q)set -e; for script in tests/vectors/gen_*.py; do python3 $$script; done

# ---- delivery -----------------------------------------------------------------------------------------------------

image: ## container image intentd:VERSION
	$(Q)docker build -t intentd:$(VERSION) -t intentd:latest .

install: all ## to $(DESTDIR)$(prefix)/bin
	install -D -t $(DESTDIR)$(prefix)/bin $(call programs,release)

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(prefix)/bin/intent $(DESTDIR)$(prefix)/bin/intentd

clean: ## remove build/ (FAISS's cache outside the checkout stays)
	rm -rf build

help: ## this list
	@awk -F' *## *' '/^[a-z-]+:.*## / { split($$1, t, ":"); printf "  make %-13s %s\n", t[1], $$2 }' Makefile
