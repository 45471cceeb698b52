/* watermark: keyed sampling marks for language models, and the exact tests that read them back.
 *
 * Made from src/ by cbindgen: change that, then run tests/header.rs with WRITE_HEADER=1.
 *
 * Conventions
 * - Every function that can fail returns a wmk_status. wmk_last_error() has the message of this
 *   thread's last failure: what happened, where, and what to do. No message contains a key.
 * - Nothing unwinds out of the library and nothing aborts: a panic is WMK_STATUS_PANIC.
 * - Structs start with struct_size. Set them to zero, then struct_size = sizeof of the struct. A
 *   larger size, of a newer header, is taken as long as the bytes that this library does not know are zero.
 * - Buffers are the caller's, come with their lengths, and are not kept after the call. Lengths count elements,
 *   not bytes. A pointer may be NULL only where it says so, or where its length is 0.
 * - Token ids are int32_t and not negative. A window is the h ids before a position, oldest first, h being
 *   context_width of wmk_scheme_facts.
 * - The library keeps no generator. Where a token is drawn, the caller passes a coin: 64 random bits of its
 *   own generator, fresh for every step of every sequence. See wmk_session_decide.
 * - Threads: a scheme, a pool and all functions without a handle may be used from any threads at once. A session
 *   or an exhibit serves one call at a time; a second one gets WMK_STATUS_BUSY. No call waits for another. Only
 *   functions that take a pool use other threads than the caller's, and only that pool's.
 * - Handles are freed once, by the function of their type, when no call uses them. Freeing NULL does nothing.
 */

#ifndef WATERMARK_H
#define WATERMARK_H

#include <stddef.h>
#include <stdint.h>
/* Of llama.h, which need not be included. */
struct llama_sampler;
struct llama_sampler_i;


// Version of the interface: changes when a program that was compiled against an older header would no longer work.
#define WMK_ABI_VERSION 1

// Outcomes that wmk_counts has room for.
#define WMK_OUTCOMES 16

// What became of a call. Codes keep their meaning; new ones may come.
enum wmk_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    WMK_STATUS_OK = 0,
    // A pointer is NULL that must not be.
    WMK_STATUS_NULL_POINTER = 1,
    // struct_size is too small, absurdly large, or covers fields that this library does not know and that are not zero.
    WMK_STATUS_STRUCT_SIZE = 2,
    // An array is too short for what it should hold, or too long for the address space.
    WMK_STATUS_LENGTH = 3,
    // A pointer is not aligned for its type.
    WMK_STATUS_ALIGNMENT = 4,
    // A token id is negative, or outside the vocabulary that the profile pins.
    WMK_STATUS_TOKEN = 5,
    // A number that stands for a choice is none of the choices, or two fields contradict each other.
    WMK_STATUS_ARGUMENT = 6,
    // A string is not UTF-8.
    WMK_STATUS_TEXT = 7,
    // The profile is unknown, is not JSON, has an unknown field, or a value out of range.
    WMK_STATUS_PROFILE = 8,
    // The key is not one, or is garbled.
    WMK_STATUS_KEY = 9,
    // The key file cannot be opened, belongs to another user, or can be read by others.
    WMK_STATUS_KEY_FILE = 10,
    // The key is of another slot than asked for, or the slot is a decoy.
    WMK_STATUS_SLOT = 11,
    // Temperature, top-p or top-k is out of range.
    WMK_STATUS_SAMPLING = 12,
    // No candidate of a row has a finite logit or a positive weight.
    WMK_STATUS_NO_CANDIDATE = 13,
    // The scheme or the processor cannot do this.
    WMK_STATUS_UNSUPPORTED = 14,
    // Another call is using the session or exhibit.
    WMK_STATUS_BUSY = 15,
    // An earlier call on the handle panicked: free it.
    WMK_STATUS_POISONED = 16,
    // A buffer of the caller's is too small for the text; the length that it needs was written.
    WMK_STATUS_BUFFER = 17,
    // The system gives no threads.
    WMK_STATUS_THREADS = 18,
    // A defect of the library, caught. Free the handles that were in use.
    WMK_STATUS_PANIC = 19,
    // The profile is enforced: its mark cannot be switched off or rationed for one sequence.
    WMK_STATUS_ENFORCED = 20,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_status wmk_status;
#else
typedef int32_t wmk_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Which of a row's independent word sequences is read.
enum wmk_lane
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Membership in the green list.
    WMK_LANE_GREEN = 0,
    // The uniforms of Gumbel-max.
    WMK_LANE_GUMBEL = 1,
    // The layers of a tournament.
    WMK_LANE_TOURNAMENT = 2,
    // Choices that must be independent of the score.
    WMK_LANE_AUXILIARY = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_lane wmk_lane;
#else
typedef int32_t wmk_lane;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What the numbers of a row are.
enum wmk_input
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Logits: divided by the temperature, and truncated. NaN counts as minus infinity.
    WMK_INPUT_LOGITS = 0,
    // Probabilities after temperature and truncation, not necessarily of sum 1: temperature must be 1, top_p 1 and top_k
    // 0. What is not positive counts as 0.
    WMK_INPUT_WEIGHTS = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_input wmk_input;
#else
typedef int32_t wmk_input;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a token is in speculative decoding, which the two keys of a dual-key mark are for: a draft and the token in its place
// must not share a coin.
enum wmk_role
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // No speculation: a fair coin of the caller's picks one of two keys.
    WMK_ROLE_ORDINARY = 0,
    // Drawn from the draft model's distribution q. Under a mark with one key a session leaves it alone.
    WMK_ROLE_DRAFT = 1,
    // In place of a rejected draft, drawn from (p - q)+.
    WMK_ROLE_RECOVERED = 2,
    // After a run of drafts that were all kept, drawn from the target's distribution p.
    WMK_ROLE_BONUS = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_role wmk_role;
#else
typedef int32_t wmk_role;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a token came about: by the mark, or by ordinary sampling for a reason.
enum wmk_outcome
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // There is no decision: the row has no candidate.
    WMK_OUTCOME_NONE = -1,
    // By the mark.
    WMK_OUTCOME_MARKED = 0,
    // Marking is switched off for this sequence.
    WMK_OUTCOME_DISABLED = 1,
    // Temperature 0: there is no choice to make.
    WMK_OUTCOME_GREEDY = 2,
    // Fewer than h tokens in the segment yet.
    WMK_OUTCOME_PARTIAL_CONTEXT = 3,
    // The window stood earlier in the sequence.
    WMK_OUTCOME_REPEATED_CONTEXT = 4,
    // Less entropy than the profile's min_entropy.
    WMK_OUTCOME_LOW_ENTROPY = 5,
    // The sequence has its number of marked tokens.
    WMK_OUTCOME_BUDGET = 6,
    // A draft of speculative decoding, under a mark with one key.
    WMK_OUTCOME_DRAFT = 7,
    // No candidate is a token of the profile's vocabulary.
    WMK_OUTCOME_NO_CANDIDATE = 8,
    // The engine took another token than the mark's: a grammar, a stop rule, a token forced by the caller.
    WMK_OUTCOME_REPLACED = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_outcome wmk_outcome;
#else
typedef int32_t wmk_outcome;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The machine code behind the keyed function. Results do not depend on it.
enum wmk_kernel
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Any machine.
    WMK_KERNEL_PORTABLE = 1,
    // x86-64 with AVX2.
    WMK_KERNEL_AVX2 = 2,
    // x86-64 with AVX-512 F, BW, DQ and VL.
    WMK_KERNEL_AVX512 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum wmk_kernel wmk_kernel;
#else
typedef int32_t wmk_kernel;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The text of one suspect: every cell (a window with the token after it) counts once over all of it. Serves one call at a
// time.
typedef struct wmk_exhibit wmk_exhibit;

// Threads for batches, of their own: no other pool of the process is used or waited for.
typedef struct wmk_pool wmk_pool;

// A profile under a key. Counted: see wmk_scheme_ref.
typedef struct wmk_scheme wmk_scheme;

// One sequence: its tokens since the prompt, and the windows met. Serves one call at a time.
typedef struct wmk_session wmk_session;

// The numbers of a batch: row i is values[i * stride .. i * stride + vocabulary].
typedef struct wmk_logits {
    // sizeof(wmk_logits).
    size_t struct_size;
    // The numbers.
    const float *values;
    // Number of values.
    size_t len;
    // Number of rows.
    size_t rows;
    // Tokens a row.
    size_t vocabulary;
    // From the start of one row to that of the next, at least vocabulary.
    size_t stride;
} wmk_logits;

// How numbers become weights. All zeros is refused: say temperature 1 and top_p 1 where nothing is to be done.
typedef struct wmk_sampling {
    // sizeof(wmk_sampling).
    size_t struct_size;
    // Logits are divided by it; 0 is greedy decoding, which is never marked.
    float temperature;
    // Keep the fewest most probable tokens whose probability reaches this; 1 keeps all.
    float top_p;
    // Keep this many of the most probable tokens; 0 keeps all.
    uint32_t top_k;
    // A wmk_input.
    int32_t input;
} wmk_sampling;

// What wmk_session_decide says. An element of arrays, so without struct_size: it will not change.
typedef struct wmk_decision {
    // Place of the token among the candidates; -1 where the mark leaves the choice to ordinary sampling.
    int64_t index;
    // The token; -1 where index is.
    int32_t token;
    // A wmk_outcome.
    int32_t outcome;
} wmk_decision;

// A candidate, laid out as llama.cpp's llama_token_data.
typedef struct wmk_token_data {
    // The token.
    int32_t id;
    // Its logit.
    float logit;
    // Not read.
    float p;
} wmk_token_data;

// The candidates of one step, in one of two forms: values, with tokens or without; or data. The other pointers are NULL.
typedef struct wmk_candidates {
    // sizeof(wmk_candidates).
    size_t struct_size;
    // A number a candidate, or NULL.
    const float *values;
    // Their tokens, in any order, none twice; NULL: value i is that of token i.
    const int32_t *tokens;
    // Candidates with their logits as llama.cpp keeps them, in any order, none twice; or NULL.
    const struct wmk_token_data *data;
    // Number of candidates.
    size_t len;
    // A wmk_role: 0 outside speculative decoding.
    int32_t role;
    // 0.
    int32_t reserved;
} wmk_candidates;

// The test of a text under one key: numbers, and no opinion about them.
//
// H0: prompts and text together are independent of the key. Under H0 the probability of so large a sum is exp(ln_p),
// exactly, or at most that where scores are rounded down.
typedef struct wmk_detection {
    // sizeof(wmk_detection).
    size_t struct_size;
    // ln P(S >= sum): the evidence. Not above 0, and never minus infinity.
    double ln_p;
    // The same to base 10.
    double log10_p;
    // log10 P(S <= sum): a small value means a mark that is being avoided. A diagnostic.
    double lower_log10_p;
    // Standard score: a figure, not the evidence.
    double z;
    // Mean score of a cell: a share of ones, or nats.
    double mean;
    // That expected under the null hypothesis.
    double null_mean;
    // Distinct cells that were scored.
    uint64_t n_scored;
    // Sum of their scores, in units of the null's lattice (SPEC.md, section 7).
    uint64_t sum;
    // Segments taken in.
    uint64_t segments;
    // Their tokens, without special ones: partial + excluded + repeated + cells.
    uint64_t tokens;
    // Without a full window: the first h of a segment.
    uint64_t partial;
    // In a window that stands in a prompt.
    uint64_t excluded;
    // Cells met before.
    uint64_t repeated;
    // Distinct cells. More than n_scored where the scheme maps several of them to one coin.
    uint64_t cells;
} wmk_detection;

// `llama_sampler_init` of llama.cpp.
typedef struct llama_sampler *(*wmk_llama_sampler_init_fn)(struct llama_sampler_i*, void*);

// What wmk_llama_sampler_new needs.
typedef struct wmk_llama_options {
    // sizeof(wmk_llama_options).
    size_t struct_size;
    // llama_sampler_init.
    wmk_llama_sampler_init_fn init;
    // Seed of what is drawn beside the key: give every sequence one of its own.
    uint64_t seed;
} wmk_llama_options;

// How the tokens of a session came about.
typedef struct wmk_counts {
    // sizeof(wmk_counts).
    size_t struct_size;
    // Tokens accepted.
    uint64_t tokens;
    // Segments.
    uint64_t segments;
    // Tokens of every wmk_outcome, with its code as the index.
    uint64_t outcomes[WMK_OUTCOMES];
} wmk_counts;

// The windows of a batch, one a row: row i is tokens[i * stride .. i * stride + h].
typedef struct wmk_windows {
    // sizeof(wmk_windows).
    size_t struct_size;
    // Ids, those of a window oldest first.
    const int32_t *tokens;
    // Number of ids in tokens.
    size_t len;
    // Number of rows.
    size_t rows;
    // From the start of one window to that of the next, at least h.
    size_t stride;
    // One byte a row, or NULL: a row whose byte is 0 has no window (the segment is still too short, or the row is not to be
    // marked), and its ids are not read.
    const uint8_t *active;
} wmk_windows;

// What wmk_scheme_new makes a scheme from: one of the two profiles, and one of the three keys. Strings end with a NUL.
typedef struct wmk_scheme_options {
    // sizeof(wmk_scheme_options).
    size_t struct_size;
    // The name of a built-in profile, for example "gumbel-dual-h2", or NULL.
    const char *profile;
    // A profile as JSON, or NULL.
    const char *profile_json;
    // The path of a key file, or NULL. It must belong to the process's user, with mode 600.
    const char *key_file;
    // The line of a key file, or NULL. The caller wipes it after the call; the library wipes its copies.
    const char *key_line;
    // The 32 bytes of a slot key, or NULL. The caller wipes them after the call; the library wipes its copies.
    const uint8_t *key_bytes;
    // Number of key_bytes: 32.
    size_t key_bytes_len;
    // The slot's epoch. NULL: that of a slot key, else "e1".
    const char *epoch;
    // The slot's index in the epoch, below 33. Where the key is a slot's own, it must be that slot's, or 0.
    uint32_t slot;
    // The account of a leak slot, from 1; 0 for a provider slot.
    uint32_t account;
} wmk_scheme_options;

// What wmk_scheme_info says.
typedef struct wmk_scheme_facts {
    // sizeof(wmk_scheme_facts).
    size_t struct_size;
    // Tokens of a window, h.
    size_t context_width;
    // Seeds that wmk_seed_rows writes for a window: 1, 2 for dual keys, h for self-hash.
    size_t seeds_per_row;
    // 1 if wmk_fill_masks and wmk_bias_rows work: the scheme adds a constant to the logits of a set of tokens.
    uint32_t biases;
    // 1 if one token under a random key keeps the candidates' distribution.
    uint32_t preserves_distribution;
    // The constant, in nats; 0 where biases is 0.
    float delta;
    // The slot's index.
    uint32_t slot;
    // The account of a leak slot, else 0.
    uint32_t account;
    // 0.
    uint32_t reserved;
    // The public name of the slot's key: 16 hexadecimal digits and a NUL.
    char key_id[24];
    // The slot's epoch, with a NUL.
    char epoch[40];
} wmk_scheme_facts;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// WMK_ABI_VERSION of the library. Compare it with that of the header before anything else.
uint32_t wmk_abi_version(void);

// Version of the library, for example "0.1.0".
const char *wmk_version(void);

// Makes a wmk_kernel that of the whole process, for measurements and for tools that know fewer instructions than the
// processor. Without a call the fastest one runs.
//
// WMK_STATUS_UNSUPPORTED: this processor cannot run it.
wmk_status wmk_kernel_select(int32_t kernel);

// Starts a pool of so many threads; *pool is to be freed by wmk_pool_free. Any threads may use it at once.
wmk_status wmk_pool_new(size_t threads,
                        struct wmk_pool **pool);

// Frees a pool, and waits until its threads have ended: then the library may be unloaded.
wmk_status wmk_pool_free(struct wmk_pool *pool);

// One step of every sequence of a batch: a row of the logits to the next token of its session, drawn with its coin and accepted.
// The arrays have as many entries as the logits have rows; no session may stand twice.
//
// WMK_STATUS_NO_CANDIDATE, _BUSY or _POISONED: the first row that failed is named; its outcome is WMK_OUTCOME_NONE, and the
// other rows are done. Any other failure: nothing has changed.
wmk_status wmk_sample_rows(const struct wmk_pool *pool,
                           struct wmk_session *const *sessions,
                           const struct wmk_logits *logits,
                           const struct wmk_sampling *sampling,
                           const uint64_t *coins,
                           struct wmk_decision *decisions);

// Chooses one of the candidates by the mark, in the row of a window of window_len = h ids. *index gets its place in the
// caller's array.
//
// For engines that keep windows and rules (what to skip, and why) themselves; the others use a session. For coin see
// wmk_session_decide. Nothing is kept, and no memory of the scheme is written: any threads may call this at once.
//
// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero. WMK_STATUS_UNSUPPORTED: a draft under a mark with one
// key.
wmk_status wmk_select_candidates(const struct wmk_scheme *scheme,
                                 const int32_t *window,
                                 size_t window_len,
                                 const struct wmk_candidates *candidates,
                                 const struct wmk_sampling *sampling,
                                 uint64_t coin,
                                 size_t *index);

// Tests one answer: wmk_exhibit_new, wmk_exhibit_push, wmk_exhibit_test. No tokens at all are a test with
// n_scored 0 and ln_p 0.
wmk_status wmk_detect(const struct wmk_scheme *scheme,
                      const int32_t *tokens,
                      size_t len,
                      struct wmk_detection *detection);

// An empty exhibit; *exhibit is to be freed by wmk_exhibit_free. It keeps what it needs of the scheme.
wmk_status wmk_exhibit_new(const struct wmk_scheme *scheme,
                           struct wmk_exhibit **exhibit);

// Frees an exhibit.
wmk_status wmk_exhibit_free(struct wmk_exhibit *exhibit);

// Excludes every window of a prompt (or system prompt, or turn of a conversation): a model may repeat from it without
// having learned it. Call it for all prompts before the first wmk_exhibit_push: exclusion does not reach back.
//
// WMK_STATUS_ARGUMENT: text was taken in already.
wmk_status wmk_exhibit_exclude(struct wmk_exhibit *exhibit,
                               const int32_t *prompt,
                               size_t len);

// Takes in one answer: no window crosses its ends, nor a special token of the profile.
//
// WMK_STATUS_TOKEN: an id is negative, or outside the vocabulary that the profile pins.
wmk_status wmk_exhibit_push(struct wmk_exhibit *exhibit, const int32_t *segment, size_t len);

// Tests what was taken in. More may be pushed afterwards; a decision to stop that looks at these numbers makes them invalid as
// p-values.
wmk_status wmk_exhibit_test(const struct wmk_exhibit *exhibit,
                            struct wmk_detection *detection);

// A sampler for the end of a llama.cpp chain, in place of llama_sampler_init_dist: it selects a token by the mark, and draws
// ordinarily where the mark skips. *sampler belongs to llama.cpp from then on: add it to a chain, or free it by
// llama_sampler_free. It keeps what it needs of the scheme.
//
// What is drawn beside the key depends on the seed, the number of tokens accepted, and the candidates: apply changes nothing
// and may be called again. Tokens that are accepted without having been applied (llama.cpp does so with the prompt) enter no
// window: a segment starts after them.
wmk_status wmk_llama_sampler_new(const struct wmk_scheme *scheme,
                                 const struct wmk_llama_options *options,
                                 struct llama_sampler **sampler);

// How the tokens of a sampler's sequence came about, and in *failures (unless it is NULL) how many times apply met candidates
// without a finite logit, and selected the first.
//
// WMK_STATUS_ARGUMENT: the sampler is not one of wmk_llama_sampler_new.
wmk_status wmk_llama_sampler_counts(const struct llama_sampler *sampler,
                                    struct wmk_counts *counts,
                                    uint64_t *failures);

// A copy of a sampler's sequence as a session, for its tokens and its record; to be freed by wmk_session_free.
wmk_status wmk_llama_sampler_session(const struct llama_sampler *sampler,
                                     struct wmk_session **session);

// wmk_session_begin_segment for a sampler.
wmk_status wmk_llama_sampler_begin_segment(struct llama_sampler *sampler);

// The seeds of every window, 32 bytes each: seeds_per_row of wmk_scheme_facts a row, one after the other; seeds_len bytes in
// all, at least rows * seeds_per_row * 32. Inactive rows, and seeds that a window does not have (self-hash has one for each
// distinct token), are zero.
//
// A seed is the ChaCha key of one window: whoever has it can compute the coins of this window and of no other.
wmk_status wmk_seed_rows(const struct wmk_scheme *scheme,
                         const struct wmk_pool *pool,
                         const struct wmk_windows *windows,
                         uint8_t *seeds,
                         size_t seeds_len);

// The first words of a wmk_lane of a window's seed number seed, for other implementations to compare with (SPEC.md, section
// 4): 32 bits a token, tile 1, account 0.
wmk_status wmk_words(const struct wmk_scheme *scheme,
                     const int32_t *window,
                     size_t window_len,
                     size_t seed,
                     int32_t lane,
                     uint32_t *words,
                     size_t words_len);

// The set of tokens that get delta, as bits: token 32 i + j of a row is bit j of its word i, the layout of
// constrained-decoding engines. Row i is masks[i * stride ..], of which the first (vocabulary + 31) / 32 words are written; bits
// beyond the vocabulary are 0, and so are inactive rows.
//
// WMK_STATUS_UNSUPPORTED: the scheme has no such set (Gumbel, tournament, self-hash).
wmk_status wmk_fill_masks(const struct wmk_scheme *scheme,
                          const struct wmk_pool *pool,
                          const struct wmk_windows *windows,
                          uint32_t *masks,
                          size_t masks_len,
                          size_t vocabulary,
                          size_t stride);

// Adds delta to the logits of the set, in place; the logits are those before temperature. Row i is logits[i * stride ..], of
// which the first vocabulary are changed; inactive rows are not.
//
// WMK_STATUS_UNSUPPORTED: as wmk_fill_masks.
wmk_status wmk_bias_rows(const struct wmk_scheme *scheme,
                         const struct wmk_pool *pool,
                         const struct wmk_windows *windows,
                         float *logits,
                         size_t logits_len,
                         size_t vocabulary,
                         size_t stride);

// Chooses a token for every row by the mark, into chosen, with the row's entry of coins; both have as many entries as there are
// rows. An inactive row and one without a candidate get -1. For coins see wmk_session_decide.
//
// WMK_STATUS_NO_CANDIDATE: the first row without a candidate is named; the other rows are done.
wmk_status wmk_select_f32(const struct wmk_scheme *scheme,
                          const struct wmk_pool *pool,
                          const struct wmk_windows *windows,
                          const struct wmk_logits *logits,
                          const struct wmk_sampling *sampling,
                          const uint64_t *coins,
                          int32_t *chosen);

// Makes a scheme; *scheme is to be freed by wmk_scheme_free.
//
// WMK_STATUS_PROFILE, _KEY, _KEY_FILE, _SLOT or _ARGUMENT: the message names the field or the file.
wmk_status wmk_scheme_new(const struct wmk_scheme_options *options, struct wmk_scheme **scheme);

// Counts one more owner: each calls wmk_scheme_free once. Sessions and exhibits keep what they need of the scheme and
// may outlive it.
wmk_status wmk_scheme_ref(struct wmk_scheme *scheme);

// One owner less; the last one frees the scheme and wipes its key.
wmk_status wmk_scheme_free(struct wmk_scheme *scheme);

// The facts of a scheme.
wmk_status wmk_scheme_info(const struct wmk_scheme *scheme, struct wmk_scheme_facts *info);

// The profile as JSON, with a NUL, into a buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
//
// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
wmk_status wmk_scheme_profile(const struct wmk_scheme *scheme,
                              char *buffer,
                              size_t len,
                              size_t *needed);

// An empty sequence. The prompt stays outside: it never enters a window. *session is to be freed by wmk_session_free; it
// keeps what it needs of the scheme.
wmk_status wmk_session_new(const struct wmk_scheme *scheme,
                           struct wmk_session **session);

// A copy that goes on independently: for beams, drafts and forks. *copy is to be freed as well.
wmk_status wmk_session_clone(const struct wmk_session *session, struct wmk_session **copy);

// Frees a session.
wmk_status wmk_session_free(struct wmk_session *session);

// The next token by the mark, or the reason to sample ordinarily: *decision. Changes nothing, and gives the same answer to
// the same question.
//
// coin: 64 random bits of the caller's generator, fresh for every step of every sequence. They become the key of ChaCha8,
// from which a green list, a tournament, and the choice between dual keys draw; Gumbel under one key draws nothing. The
// library keeps no generator: seeds, replay and reproducibility stay with the engine that has them. Coins that repeat
// where windows repeat make text repeat.
//
// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero.
wmk_status wmk_session_decide(const struct wmk_session *session,
                              const struct wmk_candidates *candidates,
                              const struct wmk_sampling *sampling,
                              uint64_t coin,
                              struct wmk_decision *decision);

// As wmk_session_decide, but where the mark skips, a candidate is drawn by its probability with the coin: the decision always
// has a token.
wmk_status wmk_session_step(const struct wmk_session *session,
                            const struct wmk_candidates *candidates,
                            const struct wmk_sampling *sampling,
                            uint64_t coin,
                            struct wmk_decision *decision);

// Adds delta to the next token's logits in place where the position is to be marked, for engines that draw themselves under a
// green list; *outcome gets the wmk_outcome to accept the token with. The logits are those before temperature; those beyond the
// profile's vocabulary become minus infinity in any case. Greedy decoding is no reason to skip here: the largest logit is looked
// for after the bonus.
//
// WMK_STATUS_UNSUPPORTED: the scheme is no bias, and nothing has changed.
wmk_status wmk_session_bias(const struct wmk_session *session,
                            float *logits,
                            size_t len,
                            float temperature,
                            int32_t *outcome);

// Appends the token that the engine took, with the outcome of its decision; with WMK_OUTCOME_REPLACED if the engine took
// another token than the mark chose.
wmk_status wmk_session_accept(struct wmk_session *session,
                              int32_t token,
                              int32_t outcome);

// Takes back the last tokens accepted; all, if there are fewer.
wmk_status wmk_session_rollback(struct wmk_session *session, size_t tokens);

// Back to an empty sequence; switch and budget stay.
wmk_status wmk_session_reset(struct wmk_session *session);

// Starts a segment (after hidden reasoning or a tool call): no window crosses this point.
wmk_status wmk_session_begin_segment(struct wmk_session *session);

// Makes room for so many more tokens, so that accepting them does not allocate.
wmk_status wmk_session_reserve(struct wmk_session *session, size_t tokens);

// Switches marking off (0) or on from here on.
//
// WMK_STATUS_ENFORCED: the profile does not allow it.
wmk_status wmk_session_set_enabled(struct wmk_session *session, int32_t enabled);

// Marks at most this many tokens of the sequence; UINT64_MAX is no limit.
//
// WMK_STATUS_ENFORCED: the profile does not allow a limit.
wmk_status wmk_session_set_budget(struct wmk_session *session, uint64_t marked_tokens);

// Counts the tokens of a session by outcome. Goes through all of them: not for every step.
wmk_status wmk_session_counts(const struct wmk_session *session, struct wmk_counts *counts);

// The tokens of a session: *len gets their number, and up to capacity of them are written.
wmk_status wmk_session_tokens(const struct wmk_session *session,
                              int32_t *tokens,
                              size_t capacity,
                              size_t *len);

// The record of a session as JSON, for a log of what was written: token ids, slot, skips; no text, no key. With a NUL, into a
// buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
//
// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
wmk_status wmk_session_record(const struct wmk_session *session,
                              char *buffer,
                              size_t len,
                              size_t *needed);

// A few words for a status; never NULL. The message of a failure says more: wmk_last_error.
const char *wmk_status_string(int32_t status);

// The message of the last failure on this thread, "" before the first: what happened, where, and what to do. Valid
// until the next failure on this thread.
const char *wmk_last_error(void);

// A few words for a status; never NULL. The message of a failure says more: wmk_last_error.
const char *wmk_status_string(int32_t status);

// The message of the last failure on this thread, "" before the first: what happened, where, and what to do. Valid
// until the next failure on this thread.
const char *wmk_last_error(void);

// Makes a scheme; *scheme is to be freed by wmk_scheme_free.
//
// WMK_STATUS_PROFILE, _KEY, _KEY_FILE, _SLOT or _ARGUMENT: the message names the field or the file.
wmk_status wmk_scheme_new(const struct wmk_scheme_options *options, struct wmk_scheme **scheme);

// Counts one more owner: each calls wmk_scheme_free once. Sessions and exhibits keep what they need of the scheme and
// may outlive it.
wmk_status wmk_scheme_ref(struct wmk_scheme *scheme);

// One owner less; the last one frees the scheme and wipes its key.
wmk_status wmk_scheme_free(struct wmk_scheme *scheme);

// The facts of a scheme.
wmk_status wmk_scheme_info(const struct wmk_scheme *scheme, struct wmk_scheme_facts *info);

// The profile as JSON, with a NUL, into a buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
//
// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
wmk_status wmk_scheme_profile(const struct wmk_scheme *scheme,
                              char *buffer,
                              size_t len,
                              size_t *needed);

// Chooses one of the candidates by the mark, in the row of a window of window_len = h ids. *index gets its place in the
// caller's array.
//
// For engines that keep windows and rules (what to skip, and why) themselves; the others use a session. For coin see
// wmk_session_decide. Nothing is kept, and no memory of the scheme is written: any threads may call this at once.
//
// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero. WMK_STATUS_UNSUPPORTED: a draft under a mark with one
// key.
wmk_status wmk_select_candidates(const struct wmk_scheme *scheme,
                                 const int32_t *window,
                                 size_t window_len,
                                 const struct wmk_candidates *candidates,
                                 const struct wmk_sampling *sampling,
                                 uint64_t coin,
                                 size_t *index);

// An empty sequence. The prompt stays outside: it never enters a window. *session is to be freed by wmk_session_free; it
// keeps what it needs of the scheme.
wmk_status wmk_session_new(const struct wmk_scheme *scheme,
                           struct wmk_session **session);

// A copy that goes on independently: for beams, drafts and forks. *copy is to be freed as well.
wmk_status wmk_session_clone(const struct wmk_session *session, struct wmk_session **copy);

// Frees a session.
wmk_status wmk_session_free(struct wmk_session *session);

// The next token by the mark, or the reason to sample ordinarily: *decision. Changes nothing, and gives the same answer to
// the same question.
//
// coin: 64 random bits of the caller's generator, fresh for every step of every sequence. They become the key of ChaCha8,
// from which a green list, a tournament, and the choice between dual keys draw; Gumbel under one key draws nothing. The
// library keeps no generator: seeds, replay and reproducibility stay with the engine that has them. Coins that repeat
// where windows repeat make text repeat.
//
// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero.
wmk_status wmk_session_decide(const struct wmk_session *session,
                              const struct wmk_candidates *candidates,
                              const struct wmk_sampling *sampling,
                              uint64_t coin,
                              struct wmk_decision *decision);

// As wmk_session_decide, but where the mark skips, a candidate is drawn by its probability with the coin: the decision always
// has a token.
wmk_status wmk_session_step(const struct wmk_session *session,
                            const struct wmk_candidates *candidates,
                            const struct wmk_sampling *sampling,
                            uint64_t coin,
                            struct wmk_decision *decision);

// Adds delta to the next token's logits in place where the position is to be marked, for engines that draw themselves under a
// green list; *outcome gets the wmk_outcome to accept the token with. The logits are those before temperature; those beyond the
// profile's vocabulary become minus infinity in any case. Greedy decoding is no reason to skip here: the largest logit is looked
// for after the bonus.
//
// WMK_STATUS_UNSUPPORTED: the scheme is no bias, and nothing has changed.
wmk_status wmk_session_bias(const struct wmk_session *session,
                            float *logits,
                            size_t len,
                            float temperature,
                            int32_t *outcome);

// Appends the token that the engine took, with the outcome of its decision; with WMK_OUTCOME_REPLACED if the engine took
// another token than the mark chose.
wmk_status wmk_session_accept(struct wmk_session *session,
                              int32_t token,
                              int32_t outcome);

// Takes back the last tokens accepted; all, if there are fewer.
wmk_status wmk_session_rollback(struct wmk_session *session, size_t tokens);

// Back to an empty sequence; switch and budget stay.
wmk_status wmk_session_reset(struct wmk_session *session);

// Starts a segment (after hidden reasoning or a tool call): no window crosses this point.
wmk_status wmk_session_begin_segment(struct wmk_session *session);

// Makes room for so many more tokens, so that accepting them does not allocate.
wmk_status wmk_session_reserve(struct wmk_session *session, size_t tokens);

// Switches marking off (0) or on from here on.
//
// WMK_STATUS_ENFORCED: the profile does not allow it.
wmk_status wmk_session_set_enabled(struct wmk_session *session, int32_t enabled);

// Marks at most this many tokens of the sequence; UINT64_MAX is no limit.
//
// WMK_STATUS_ENFORCED: the profile does not allow a limit.
wmk_status wmk_session_set_budget(struct wmk_session *session, uint64_t marked_tokens);

// Counts the tokens of a session by outcome. Goes through all of them: not for every step.
wmk_status wmk_session_counts(const struct wmk_session *session, struct wmk_counts *counts);

// The tokens of a session: *len gets their number, and up to capacity of them are written.
wmk_status wmk_session_tokens(const struct wmk_session *session,
                              int32_t *tokens,
                              size_t capacity,
                              size_t *len);

// The record of a session as JSON, for a log of what was written: token ids, slot, skips; no text, no key. With a NUL, into a
// buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
//
// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
wmk_status wmk_session_record(const struct wmk_session *session,
                              char *buffer,
                              size_t len,
                              size_t *needed);

// Starts a pool of so many threads; *pool is to be freed by wmk_pool_free. Any threads may use it at once.
wmk_status wmk_pool_new(size_t threads,
                        struct wmk_pool **pool);

// Frees a pool, and waits until its threads have ended: then the library may be unloaded.
wmk_status wmk_pool_free(struct wmk_pool *pool);

// One step of every sequence of a batch: a row of the logits to the next token of its session, drawn with its coin and accepted.
// The arrays have as many entries as the logits have rows; no session may stand twice.
//
// WMK_STATUS_NO_CANDIDATE, _BUSY or _POISONED: the first row that failed is named; its outcome is WMK_OUTCOME_NONE, and the
// other rows are done. Any other failure: nothing has changed.
wmk_status wmk_sample_rows(const struct wmk_pool *pool,
                           struct wmk_session *const *sessions,
                           const struct wmk_logits *logits,
                           const struct wmk_sampling *sampling,
                           const uint64_t *coins,
                           struct wmk_decision *decisions);

// The seeds of every window, 32 bytes each: seeds_per_row of wmk_scheme_facts a row, one after the other; seeds_len bytes in
// all, at least rows * seeds_per_row * 32. Inactive rows, and seeds that a window does not have (self-hash has one for each
// distinct token), are zero.
//
// A seed is the ChaCha key of one window: whoever has it can compute the coins of this window and of no other.
wmk_status wmk_seed_rows(const struct wmk_scheme *scheme,
                         const struct wmk_pool *pool,
                         const struct wmk_windows *windows,
                         uint8_t *seeds,
                         size_t seeds_len);

// The first words of a wmk_lane of a window's seed number seed, for other implementations to compare with (SPEC.md, section
// 4): 32 bits a token, tile 1, account 0.
wmk_status wmk_words(const struct wmk_scheme *scheme,
                     const int32_t *window,
                     size_t window_len,
                     size_t seed,
                     int32_t lane,
                     uint32_t *words,
                     size_t words_len);

// The set of tokens that get delta, as bits: token 32 i + j of a row is bit j of its word i, the layout of
// constrained-decoding engines. Row i is masks[i * stride ..], of which the first (vocabulary + 31) / 32 words are written; bits
// beyond the vocabulary are 0, and so are inactive rows.
//
// WMK_STATUS_UNSUPPORTED: the scheme has no such set (Gumbel, tournament, self-hash).
wmk_status wmk_fill_masks(const struct wmk_scheme *scheme,
                          const struct wmk_pool *pool,
                          const struct wmk_windows *windows,
                          uint32_t *masks,
                          size_t masks_len,
                          size_t vocabulary,
                          size_t stride);

// Adds delta to the logits of the set, in place; the logits are those before temperature. Row i is logits[i * stride ..], of
// which the first vocabulary are changed; inactive rows are not.
//
// WMK_STATUS_UNSUPPORTED: as wmk_fill_masks.
wmk_status wmk_bias_rows(const struct wmk_scheme *scheme,
                         const struct wmk_pool *pool,
                         const struct wmk_windows *windows,
                         float *logits,
                         size_t logits_len,
                         size_t vocabulary,
                         size_t stride);

// Chooses a token for every row by the mark, into chosen, with the row's entry of coins; both have as many entries as there are
// rows. An inactive row and one without a candidate get -1. For coins see wmk_session_decide.
//
// WMK_STATUS_NO_CANDIDATE: the first row without a candidate is named; the other rows are done.
wmk_status wmk_select_f32(const struct wmk_scheme *scheme,
                          const struct wmk_pool *pool,
                          const struct wmk_windows *windows,
                          const struct wmk_logits *logits,
                          const struct wmk_sampling *sampling,
                          const uint64_t *coins,
                          int32_t *chosen);

// Tests one answer: wmk_exhibit_new, wmk_exhibit_push, wmk_exhibit_test. No tokens at all are a test with
// n_scored 0 and ln_p 0.
wmk_status wmk_detect(const struct wmk_scheme *scheme,
                      const int32_t *tokens,
                      size_t len,
                      struct wmk_detection *detection);

// An empty exhibit; *exhibit is to be freed by wmk_exhibit_free. It keeps what it needs of the scheme.
wmk_status wmk_exhibit_new(const struct wmk_scheme *scheme,
                           struct wmk_exhibit **exhibit);

// Frees an exhibit.
wmk_status wmk_exhibit_free(struct wmk_exhibit *exhibit);

// Excludes every window of a prompt (or system prompt, or turn of a conversation): a model may repeat from it without
// having learned it. Call it for all prompts before the first wmk_exhibit_push: exclusion does not reach back.
//
// WMK_STATUS_ARGUMENT: text was taken in already.
wmk_status wmk_exhibit_exclude(struct wmk_exhibit *exhibit,
                               const int32_t *prompt,
                               size_t len);

// Takes in one answer: no window crosses its ends, nor a special token of the profile.
//
// WMK_STATUS_TOKEN: an id is negative, or outside the vocabulary that the profile pins.
wmk_status wmk_exhibit_push(struct wmk_exhibit *exhibit, const int32_t *segment, size_t len);

// Tests what was taken in. More may be pushed afterwards; a decision to stop that looks at these numbers makes them invalid as
// p-values.
wmk_status wmk_exhibit_test(const struct wmk_exhibit *exhibit,
                            struct wmk_detection *detection);

// A sampler for the end of a llama.cpp chain, in place of llama_sampler_init_dist: it selects a token by the mark, and draws
// ordinarily where the mark skips. *sampler belongs to llama.cpp from then on: add it to a chain, or free it by
// llama_sampler_free. It keeps what it needs of the scheme.
//
// What is drawn beside the key depends on the seed, the number of tokens accepted, and the candidates: apply changes nothing
// and may be called again. Tokens that are accepted without having been applied (llama.cpp does so with the prompt) enter no
// window: a segment starts after them.
wmk_status wmk_llama_sampler_new(const struct wmk_scheme *scheme,
                                 const struct wmk_llama_options *options,
                                 struct llama_sampler **sampler);

// How the tokens of a sampler's sequence came about, and in *failures (unless it is NULL) how many times apply met candidates
// without a finite logit, and selected the first.
//
// WMK_STATUS_ARGUMENT: the sampler is not one of wmk_llama_sampler_new.
wmk_status wmk_llama_sampler_counts(const struct llama_sampler *sampler,
                                    struct wmk_counts *counts,
                                    uint64_t *failures);

// A copy of a sampler's sequence as a session, for its tokens and its record; to be freed by wmk_session_free.
wmk_status wmk_llama_sampler_session(const struct llama_sampler *sampler,
                                     struct wmk_session **session);

// wmk_session_begin_segment for a sampler.
wmk_status wmk_llama_sampler_begin_segment(struct llama_sampler *sampler);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WATERMARK_H */
