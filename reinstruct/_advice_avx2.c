/* The loop of _advice.c for processors with AVX2. */

#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#endif
#include "_advice_judge.h"

PyObject *judge_all_avx2(const Rules *rules, const Views *texts) {
    return judge_all(rules, texts);
}
