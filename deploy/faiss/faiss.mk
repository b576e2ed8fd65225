# Compiles FAISS and its C API into two static libraries. Run by build.sh inside a temporary folder that holds the
# unpacked sources:  make -f faiss.mk SRC=faiss-1.7.3 OPT=avx2
#
# CMake is not used: the library is a flat list of files with one set of flags (those of faiss/CMakeLists.txt), and
# its faiss_c target always drags in the generic library beside the AVX2 one.

OPT ?= generic
flags_avx2 := -mavx2 -mfma -mf16c -mpopcnt
CXXFLAGS := -std=gnu++17 -O3 -DNDEBUG -DFINTEGER=int -fPIC -fopenmp -w $(flags_$(OPT))

lib_src := $(wildcard $(SRC)/faiss/*.cpp $(SRC)/faiss/impl/*.cpp $(SRC)/faiss/invlists/*.cpp $(SRC)/faiss/utils/*.cpp)
c_src := $(wildcard $(SRC)/c_api/*.cpp $(SRC)/c_api/impl/*.cpp $(SRC)/c_api/utils/*.cpp)
lib_obj := $(lib_src:.cpp=.o)
c_obj := $(c_src:.cpp=.o)
total := $(words $(lib_obj) $(c_obj))

all: libfaiss.a libfaiss_c.a

# A line that is rewritten on a terminal, one line in sixteen elsewhere.
%.o: %.cpp
	@$(CXX) $(CXXFLAGS) -I$(SRC) -I$(SRC)/c_api -c -o $@.tmp $< && mv $@.tmp $@
	@n=$$(find $(SRC) -name '*.o' | wc -l); \
	if [ -t 2 ]; then printf '\rfaiss: compiled %d of $(total) files ' $$n >&2; \
	elif [ $$((n % 16)) = 0 ]; then echo "faiss: compiled $$n of $(total) files" >&2; fi

libfaiss.a: $(lib_obj)
	@ar rcs $@ $^

libfaiss_c.a: $(c_obj)
	@ar rcs $@ $^

.PHONY: all
