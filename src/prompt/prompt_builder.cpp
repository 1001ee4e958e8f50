#include "prompt/prompt_builder.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/printable.h"
#include "base/utf8.h"
#include "prompt/pieces.h"
#include "text/check_text.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using text::ChatMessage;
using text::ChatPart;
using Ids = std::vector<std::int64_t>;

// More than a token of an ordinary text has: a first guess at how much of a long one is needed.
constexpr std::size_t kBytesPerToken = 8;
// How many tokens at the end of a text that was cut in bytes may differ from those of the whole text.
constexpr std::int64_t kSparedTokens = 64;

std::string replaced(std::string_view piece, std::string_view value) {
  std::string out;
  visit_piece(
      piece, [&](std::string_view text) { out += text; }, [&](std::string_view) { out += value; });
  return out;
}

bool all_text(const std::vector<ChatPart>& parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [](const ChatPart& part) { return part.kind == base::Modality::kText; });
}

// Templates of text-only models write a list of parts as its Python representation, or fail.
bool takes_lists(const text::ChatTemplate& chat_template, const char* role) {
  constexpr const char* kProbe = "probe0";
  text::RenderOptions options;
  options.guard_control_tokens = false;
  std::vector<ChatMessage> messages = {{role, {{base::Modality::kText, kProbe}}, false}};
  if (messages.front().role != "user") messages.push_back({"user", {{base::Modality::kText, "x"}}, true});
  try {
    const std::string out = chat_template.render(messages, options);
    return out.find(kProbe) != std::string::npos && out.find("'type'") == std::string::npos &&
           out.find("\"type\"") == std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

void append_ids(models::Prompt& prompt, const std::vector<std::int64_t>& ids) {
  for (const std::int64_t id : ids) {
    prompt.ids.push_back(id);
    prompt.kinds.push_back(base::Modality::kText);
    prompt.positions.push_back({prompt.next_position, prompt.next_position, prompt.next_position});
    ++prompt.next_position;
  }
}

void set_sequential_positions(models::Prompt& prompt) {
  prompt.next_position = 0;
  for (auto& axes : prompt.positions) axes.fill(prompt.next_position++);
}

// Positions::kPastAllAxes: each text token and each visual begins one past the highest position before it.
void move_text_past_all_axes(models::Prompt& prompt) {
  std::int64_t next = 0, shift = 0;
  std::int64_t left = 0;  // Tokens of the visual that `i` is in; text may stand between them.
  bool goes_on = false;   // The token before is of the same visual.
  auto visual = prompt.visual_tokens.begin();
  for (std::size_t i = 0; i < prompt.positions.size(); ++i) {
    auto& axes = prompt.positions[i];
    const bool text = prompt.kinds[i] == base::Modality::kText;
    if (!text && left == 0) left = *visual++;
    if (text || !goes_on) shift = next - axes[0];
    goes_on = !text && --left > 0;
    for (std::int64_t& position : axes) {
      position += shift;
      next = std::max(next, position + 1);
    }
  }
  prompt.next_position = next;
}

// Questions about one image or video part after it.
void set_boundaries_after_visuals(models::Prompt& prompt) {
  for (std::size_t i = 1; i < prompt.kinds.size(); ++i) {
    if (prompt.kinds[i] == base::Modality::kText && prompt.kinds[i - 1] != base::Modality::kText) {
      prompt.boundaries.push_back(static_cast<std::int64_t>(i));
    }
  }
}

// The last turn of a user, whose texts are what may be cut of chat messages; their number if there is none.
std::size_t turn_to_cut(const Input& input) {
  for (std::size_t i = input.messages.size(); i-- > 0;) {
    if (input.messages[i].role == "user") return i;
  }
  return input.messages.size();
}

// The item with no text of more than `bytes`; `cut` says whether one had more.
Input shortened(const Input& input, std::size_t bytes, bool& cut) {
  Input out = input;
  const auto shorten = [&](std::vector<Part>& parts) {
    for (Part& part : parts) {
      auto* text = std::get_if<std::string>(&part);
      if (text == nullptr || text->size() <= bytes) continue;
      std::size_t end = bytes;
      while (end > 0 && base::continues_character(*text, end)) --end;
      text->resize(end);
      cut = true;
    }
  };
  shorten(out.parts);
  const std::size_t turn = turn_to_cut(out);
  if (turn < out.messages.size()) shorten(out.messages[turn].parts);
  return out;
}

// Throws ModelError for a recipe that needs a chat template which the checkpoint lacks, or that sets options which the
// template does not read.
void check_template(const Recipe& recipe, const CheckpointFiles& files) {
  if (recipe.prompt.chat && !files.chat_template) {
    throw ModelError(fmt::format(
        "{} has no chat template: give a recipe whose style is \"raw\", or add chat_template.jinja.",
        files.path.string()));
  }
  for (const auto& [name, value] : recipe.prompt.template_options) {
    if (files.chat_template->names_variable(name)) continue;
    throw ModelError(fmt::format(
        "The template option \"{}\", of the recipe \"{}\" or of the call, is none that the chat template "
        "of {} reads: leave it out, or correct its name.",
        base::printable(name, 40), recipe.name, base::printable(files.path.string(), 160)));
  }
}

// Throws ModelError for a rule that pools a token with more behind it than a suffix has.
void check_offsets(const Recipe& recipe, std::size_t suffix, const std::filesystem::path& path) {
  for (const PoolingRule& rule : {recipe.pooling, recipe.without_trace.value_or(PoolingRule())}) {
    if (rule.offset <= static_cast<std::int64_t>(suffix)) continue;
    throw ModelError(fmt::format(
        "The recipe \"{}\" pools a token with {} behind it (pooling_offset), but prompts of {} end with "
        "{}: give them as \"trace\": {{\"suffix\": ...}}.",
        recipe.name, rule.offset, base::printable(path.string(), 160), suffix));
  }
}

}  // namespace

PromptBuilder::PromptBuilder(std::shared_ptr<const CheckpointFiles> files, Recipe recipe,
                             bool parse_control_tokens, const MediaLimits& media_limits)
    : files_(std::move(files)),
      recipe_(std::move(recipe)),
      media_(*files_->preprocessor, recipe_, media_limits),
      parse_control_tokens_(parse_control_tokens),
      trace_in_body_(recipe_.prompt.trace_in_body()) {
  const text::Tokenizer& tokenizer = *files_->tokenizer;
  check_template(recipe_, *files_);
  if (files_->chat_template) {
    takes_lists_ = takes_lists(*files_->chat_template, "user");
    takes_system_lists_ = takes_lists(*files_->chat_template, "system");
  } else {
    control_ = text::ControlTokens::of_tokenizer(tokenizer);
  }
  const auto visual_text = [&](const std::string& piece, std::optional<std::int64_t> token) {
    return token ? replaced(piece, tokenizer.token_bytes(*token, false)) : std::string();
  };
  image_text_ = visual_text(recipe_.prompt.image, files_->preprocessor->image_token());
  video_text_ = visual_text(recipe_.prompt.video, files_->preprocessor->video_token());
  if (recipe_.prompt.blank_image > 0 && !files_->preprocessor->image_token()) {
    throw ModelError(fmt::format(
        "The recipe \"{}\" puts a blank image before items without one, but the model of {} reads text only: "
        "leave \"blank_image\" out.",
        recipe_.name, files_->path.string()));
  }
  std::string eos;
  if (!placeholders(recipe_.trace.suffix).empty()) {
    if (!tokenizer.eos_id()) {
      throw ModelError(fmt::format(
          "The recipe \"{}\" ends prompts with {{eos}}, but the tokenizer of {} has no end token.",
          recipe_.name, files_->path.string()));
    }
    eos = tokenizer.token_bytes(*tokenizer.eos_id(), false);
  }
  suffix_ids_ = tokenizer.encode(replaced(recipe_.trace.suffix, eos));
  // As in transformers: see encode(). A template that writes what texts begin with writes their end, too.
  const bool is_text = !recipe_.prompt.chat || (files_->preprocessor->image_token() &&
                                                !files_->chat_template->names_variable("bos_token"));
  if (is_text && recipe_.trace.suffix.empty()) suffix_ids_ = tokenizer.end_ids();
  check_offsets(recipe_, suffix_ids_.size(), files_->path);
  for (const auto& [name, content] : tokenizer.named_tokens()) {
    if (name == "bos_token") bos_ = content;
  }
  if (recipe_.pooling.pooling == Pooling::kToken) pooling_id_ = token_id(recipe_.pooling.token, "pools");
  if (recipe_.without_trace && recipe_.without_trace->pooling == Pooling::kToken)
    without_trace_pooling_id_ = token_id(recipe_.without_trace->token, "pools");
  if (recipe_.latent) {
    latent_open_ids_ = tokenizer.encode(recipe_.latent->open);
    latent_id_ = token_id(recipe_.latent->token, "shows latent steps as");
    if (recipe_.latent->context == LatentThinking::Context::kToken)
      latent_context_id_ = token_id(recipe_.latent->context_token, "takes as the context of latent steps");
  }
  for (const std::string& token : recipe_.trace.stop_tokens)
    recipe_.decoding.stop_token_ids.push_back(token_id(token, "ends traces at"));
}

std::int64_t PromptBuilder::token_id(const std::string& token, const char* what) const {
  const auto id = files_->tokenizer->id_of(token);
  if (!id) {
    throw ModelError(
        fmt::format("The recipe \"{}\" {} the token \"{}\", which the tokenizer of {} does not have.",
                    recipe_.name, what, base::printable(token, 40), files_->path.string()));
  }
  return *id;
}

const text::ControlTokens& PromptBuilder::control() const {
  return files_->chat_template ? files_->chat_template->control() : control_;
}

std::string PromptBuilder::user_text(const std::string& text, bool inside) const {
  text::require_size(text);  // Before anything is made of it.
  return parse_control_tokens_ ? text : control().guard_ends(text, inside);
}

std::string PromptBuilder::trace_text(const Trace& trace) const {
  const TraceFormat& format = recipe_.trace;
  std::string_view text = format.conclusion_only && !trace.conclusion.empty() ? trace.conclusion : trace.text;
  for (const std::string& token : format.stop_tokens) {
    if (text.ends_with(token)) text.remove_suffix(token.size());
  }
  return guarded_trace(text);
}

std::string PromptBuilder::guarded_trace(std::string_view text) const {
  const TraceFormat& format = recipe_.trace;
  // The tags may be tokens of their own, which a generated trace has as such; everything else is plain text.
  const std::string written = recipe_.pooling.else_last ? recipe_.pooling.token : "";
  std::string out;
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t at = std::string::npos;
    std::size_t size = 0;
    for (const std::string* tag : {&format.open, &format.close, &written}) {
      const std::size_t found = tag->empty() ? std::string::npos : text.find(*tag, begin);
      if (found < at) {
        at = found;
        size = tag->size();
      }
    }
    out += control().guard_ends(text.substr(begin, at == std::string::npos ? at : at - begin));
    if (at == std::string::npos) break;
    out += text.substr(at, size);
    begin = at + size;
  }
  return out;
}

bool PromptBuilder::opens_thinking(const models::Prompt& prompt) const {
  constexpr std::int64_t kTail = 32;  // Tokens: the tag and white space behind it.
  const std::string& open = recipe_.trace.open;
  if (open.empty()) return false;
  std::string tail =
      files_->tokenizer->decode({prompt.ids.end() - std::min(prompt.size(), kTail), prompt.ids.end()}, false);
  tail.erase(tail.find_last_not_of(" \t\r\n") + 1);
  return tail.ends_with(open);
}

std::vector<std::int64_t> PromptBuilder::trace_ids(const Trace& trace) const {
  if (!recipe_.trace.conclusion_only && !trace.token_ids.empty() && trace.vocabulary == files_->vocabulary) {
    std::vector<std::int64_t> ids = trace.token_ids;
    // Stop strings are cut off the text, and a caller may have edited it: then the text counts.
    if (files_->tokenizer->decode(ids) == trace.text) {
      const auto& stop = recipe_.decoding.stop_token_ids;
      const bool ends = files_->tokenizer->is_special(ids.back()) ||
                        std::find(stop.begin(), stop.end(), ids.back()) != stop.end();
      if (trace.finish == FinishReason::kStop && ends) ids.pop_back();
      return ids;
    }
  }
  return files_->tokenizer->encode(control().settle(trace_text(trace)));
}

std::string PromptBuilder::render_messages(std::vector<ChatMessage> messages) const {
  for (ChatMessage& message : messages) {
    // A list of parts is a list for templates that take one, and a string for the others.
    if (!(message.role == "system" ? takes_system_lists_ : takes_lists_)) message.plain = true;
    if (message.plain && !all_text(message.parts)) {
      throw InputError(fmt::format("it has an image or a video, but the chat template of {} takes text only.",
                                   files_->path.string()));
    }
    if (message.parts.empty()) message.parts.push_back({base::Modality::kText, ""});
  }
  text::RenderOptions options;
  // An assistant turn at the end is one to be continued: a closed one would leave nothing to write.
  options.continue_final_message = messages.back().role == "assistant";
  options.add_generation_prompt = recipe_.prompt.generation_prompt && !options.continue_final_message;
  options.guard_control_tokens = false;  // Done already, for the text of users only.
  options.variables = recipe_.prompt.template_options;
  try {
    return files_->chat_template->render(messages, options);
  } catch (const ModelError& error) {  // A template that fails for this item may well take others.
    throw InputError(fmt::format("the checkpoint makes no prompt of it: {}", error.what()));
  }
}

std::string PromptBuilder::render_raw(const std::vector<ChatPart>& parts) const {
  std::string out;
  for (const ChatPart& part : parts) {
    out += part.kind == base::Modality::kText    ? part.text
           : part.kind == base::Modality::kImage ? image_text_
                                                 : video_text_;
  }
  return control().settle(out);
}

std::string PromptBuilder::render(const Input& input, const Slots& slots) const {
  if (!input.messages.empty()) {
    if (!files_->chat_template) {
      throw InputError(
          fmt::format("it is a list of chat messages, but {} has no chat template to write them with.",
                      files_->path.string()));
    }
    std::vector<ChatMessage> messages;
    for (const Message& message : input.messages) {
      // Most templates write down whatever role there is, so that a mistyped one would pass unnoticed.
      if (message.role != "system" && message.role != "user" && message.role != "assistant" &&
          !files_->chat_template->names_role(message.role)) {
        throw InputError(fmt::format(
            "it has a message of the role \"{}\", which the chat template of {} does not know: use "
            "\"system\", \"user\" or \"assistant\".",
            base::printable(message.role, 40), base::printable(files_->path.string(), 160)));
      }
      messages.push_back(
          {user_text(message.role, false),
           chat_parts(message.parts, [this](const std::string& text) { return user_text(text); }),
           message.plain});
    }
    return render_messages(std::move(messages));
  }
  const PromptTemplate& prompt = recipe_.prompt;
  std::vector<ChatPart> body = fill(prompt.body(), slots);
  if (!prompt.chat) return render_raw(body);
  std::vector<ChatMessage> messages;
  if (auto system = fill(prompt.system, slots); !system.empty()) {
    messages.push_back({"system", std::move(system), false});
  }
  messages.push_back({"user", std::move(body), false});
  return render_messages(std::move(messages));
}

std::vector<std::int64_t> PromptBuilder::encode(const std::string& text) const {
  std::vector<std::int64_t> ids = files_->tokenizer->encode(text);
  const bool begun = !bos_.empty() && text.starts_with(bos_);
  // As in transformers, where a tokenizer's chat template writes all there is, and a processor's text is a text.
  if (!begun && (!recipe_.prompt.chat || files_->preprocessor->image_token())) {
    const std::vector<std::int64_t>& begin = files_->tokenizer->begin_ids();
    ids.insert(ids.begin(), begin.begin(), begin.end());
  }
  return ids;
}

void PromptBuilder::check_takes_trace(const Input& input) const {
  recipe_.check_reads_traces();
  if (!trace_in_body_ || input.messages.empty()) return;
  throw InputError(fmt::format(
      "it is a list of chat messages, and the recipe \"{}\" writes traces into a turn of its own: give "
      "the item as parts, or write the trace into the messages and embed them without one.",
      recipe_.name));
}

std::shared_ptr<const models::Prompt> PromptBuilder::begin(const Input& input, const PromptRequest& request,
                                                           const models::Visuals& own, const Trace* trace,
                                                           const CancelToken& stop) const {
  std::int64_t uncut = 0;
  models::Visuals visuals = own;
  if (trace != nullptr) check_takes_trace(input);
  const std::vector<ChatPart> placed =
      trace == nullptr || !trace_in_body_ ? std::vector<ChatPart>{} : place(*trace, input, visuals, stop);
  const auto has_tokens = [&](const std::shared_ptr<const models::Prompt>& prompt) {
    // The tokenizer's own end is what an embedder pools; nothing ends a prompt that is thought about.
    if (prompt->ids.empty() && (request.stage != Stage::kEmbed || suffix_ids_.empty()))
      throw InputError("it gives a prompt without a single token: it needs some content.");
    return prompt;
  };
  const auto slots_with_trace = [&](const Input& item) {
    // The recipe's own words may hold control tokens; a caller's are text.
    Slots slots =
        slots_of(item, request, recipe_, [this](const std::string& text) { return user_text(text); });
    slots.trace = placed;
    return slots;
  };
  const std::int64_t limit = recipe_.max_length;
  if (limit == 0)
    return has_tokens(
        std::make_shared<models::Prompt>(expand(input, slots_with_trace(input), visuals, uncut)));
  // A text of any length in the time of one that fits: of more than a few bytes for a token its beginning is enough,
  // unless it has longer tokens than most.
  for (std::size_t bytes = kBytesPerToken * static_cast<std::size_t>(limit);; bytes *= 4) {
    bool cut = false;
    const Input shorter = shortened(input, bytes, cut);
    auto prompt =
        std::make_shared<models::Prompt>(expand(shorter, slots_with_trace(shorter), visuals, uncut));
    if (!cut || uncut >= limit + kSparedTokens) return has_tokens(prompt);
  }
}

std::vector<ChatPart> PromptBuilder::place(const Trace& trace, const Input& input, models::Visuals& visuals,
                                           const CancelToken& stop) const {
  std::vector<ChatPart> parts;
  const auto add = [&](std::string text) {
    if (!text.empty()) parts.push_back({base::Modality::kText, std::move(text)});
  };
  const auto evidence = evidence_of(trace.text, recipe_.trace.evidence);
  if (!evidence) {
    add(trace_text(trace));
    return parts;
  }
  const models::Visuals pointed = media_.read_evidence(input, *evidence, stop);
  visuals.insert(visuals.end(), pointed.begin(), pointed.end());
  add(guarded_trace(evidence->head));
  parts.insert(parts.end(), pointed.size(), {base::Modality::kImage, ""});
  add(guarded_trace(evidence->tail));
  return parts;
}

Ids PromptBuilder::ids_of(const Input& input, const Slots& slots, const models::Visuals& visuals) const {
  return encode(files_->preprocessor->expand_text(render(input, slots), visuals, recipe_.visuals));
}

models::Prompt PromptBuilder::expand(const Input& input, const Slots& slots, const models::Visuals& visuals,
                                     std::int64_t& uncut) const {
  const models::Preprocessor& preprocessor = *files_->preprocessor;
  Ids ids = ids_of(input, slots, visuals);
  auto prompt = preprocessor.expand_placeholders(ids, visuals);
  uncut = prompt.size();
  std::size_t behind = suffix_ids_.size() + latent_open_ids_.size();
  if (recipe_.latent) behind += static_cast<std::size_t>(recipe_.latent->steps);
  const std::int64_t excess = uncut + static_cast<std::int64_t>(behind) - recipe_.max_length;
  if (recipe_.max_length > 0 && excess > 0) {
    prompt = preprocessor.expand_placeholders(cut(ids, excess, input, slots, visuals), visuals);
    if (prompt.size() > uncut - excess) {
      throw InputError(
          fmt::format("its prompt has {} tokens more than the {} of the recipe \"{}\", and only {} of them "
                      "are text of the item, "
                      "which may be cut: give fewer or smaller images, or a shorter instruction.",
                      excess, recipe_.max_length, recipe_.name, uncut - prompt.size()));
    }
  }
  if (recipe_.prompt.positions == Positions::kSequential) set_sequential_positions(prompt);
  if (recipe_.prompt.positions == Positions::kPastAllAxes) move_text_past_all_axes(prompt);
  set_boundaries_after_visuals(prompt);
  return prompt;
}

// A text is between what stays as it is when the text is another one.
std::vector<std::pair<std::size_t, std::size_t>> PromptBuilder::text_ranges(
    const Ids& ids, const Input& input, const Slots& slots, const models::Visuals& visuals) const {
  std::vector<std::pair<std::size_t, std::size_t>> ranges;
  const auto add = [&](const Ids& one, const Ids& other) {
    const auto same = [](const Ids& a, const Ids& b) {
      const std::size_t most = std::min(a.size(), b.size());
      const auto length = static_cast<std::ptrdiff_t>(most);
      const auto head = std::mismatch(a.begin(), a.begin() + length, b.begin()).first - a.begin();
      const auto tail = std::mismatch(a.rbegin(), a.rbegin() + length, b.rbegin()).first - a.rbegin();
      return std::pair{static_cast<std::size_t>(head), static_cast<std::size_t>(tail)};
    };
    const auto [head, tail] = same(one, other);
    const auto [own_head, own_tail] = same(ids, one);
    const std::size_t begin = std::min(head, own_head), end = ids.size() - std::min(tail, own_tail);
    if (begin < end) ranges.emplace_back(begin, end);
  };
  const bool messages = !input.messages.empty();
  const std::size_t turn = turn_to_cut(input);
  if (messages && turn == input.messages.size()) return ranges;
  const std::size_t count = messages ? input.messages[turn].parts.size() : slots.content.size();
  for (std::size_t i = count; i-- > 0;) {
    const auto with = [&](const char* text) {
      if (messages) {
        Input changed = input;
        changed.messages[turn].parts[i] = std::string(text);
        return ids_of(changed, slots, visuals);
      }
      Slots changed = slots;
      changed.content[i].text = text;
      return ids_of(input, changed, visuals);
    };
    const bool text = messages ? std::holds_alternative<std::string>(input.messages[turn].parts[i])
                               : slots.content[i].kind == base::Modality::kText;
    if (text) add(with("0"), with("1 2 3"));
  }
  return ranges;
}

Ids PromptBuilder::cut(const Ids& ids, std::int64_t excess, const Input& input, const Slots& slots,
                       const models::Visuals& visuals) const {
  std::vector<bool> keep(ids.size(), true);
  for (const auto& [begin, end] : text_ranges(ids, input, slots, visuals)) {
    for (std::size_t i = end; i-- > begin && excess > 0;) {
      if (!keep[i] || files_->tokenizer->is_special(ids[i])) continue;
      keep[i] = false;
      --excess;
    }
  }
  Ids out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (keep[i]) out.push_back(ids[i]);
  }
  return out;
}

// What stands behind the steps goes on from them, and both stand where as many tokens are before them, as in a cache,
// and not where the family would go on.
std::shared_ptr<const models::Prompt> PromptBuilder::with_latent_steps(
    const std::shared_ptr<const models::Prompt>& prompt) const {
  using Context = LatentThinking::Context;
  const LatentThinking& thinking = *recipe_.latent;
  auto out = std::make_shared<models::Prompt>(*continued(prompt, latent_open_ids_));
  models::LatentRows& latent = out->latent;
  latent.begin = out->size();
  latent.count = thinking.steps;
  if (thinking.context != Context::kNone) latent.context = out->size() - 1;
  if (thinking.context == Context::kToken) {
    const auto last = std::find(out->ids.rbegin(), out->ids.rend(), latent_context_id_);
    if (last != out->ids.rend()) latent.context = out->ids.rend() - last - 1;
  }
  out->next_position = out->size();
  append_ids(*out, Ids(static_cast<std::size_t>(thinking.steps), latent_id_));
  append_ids(*out, suffix_ids_);
  return out;
}

EmbedPrompt PromptBuilder::with_trace(const std::shared_ptr<const models::Prompt>& begun,
                                      const Trace* trace) const {
  if (trace != nullptr) recipe_.check_reads_traces();
  std::vector<std::int64_t> tail;
  if (trace != nullptr && appends_trace()) tail = trace_ids(*trace);
  EmbedPrompt out;
  out.trace_begin = begun->size();
  out.trace_end = begun->size() + static_cast<std::int64_t>(tail.size());
  const bool was_cut = trace != nullptr && trace->finish == FinishReason::kLength;
  const bool ended = !was_cut || recipe_.trace.suffix_when_cut;
  if (ended) tail.insert(tail.end(), suffix_ids_.begin(), suffix_ids_.end());
  out.prompt = recipe_.latent ? with_latent_steps(begun) : continued(begun, tail);
  const auto& ids = out.prompt->ids;
  const bool other = trace == nullptr && recipe_.without_trace;
  const PoolingRule& rule = other ? *recipe_.without_trace : recipe_.pooling;
  if (rule.pooling == Pooling::kLast) out.pooled_row = out.prompt->size() - 1 - (ended ? rule.offset : 0);
  if (rule.pooling == Pooling::kToken) {
    // With a fallback it is the trace that has the token or not, whatever the prompt says before.
    const auto end = rule.else_last && trace != nullptr ? ids.rend() - begun->size() : ids.rend();
    const auto last = std::find(ids.rbegin(), end, other ? without_trace_pooling_id_ : pooling_id_);
    if (last == end && rule.else_last) {
      out.pooled_row = out.prompt->size() - 1;
      return out;
    }
    if (last == end) {
      throw InputError(
          fmt::format("the prompt has no \"{}\", which the recipe \"{}\" pools: the recipe or the trace "
                      "must write it.",
                      base::printable(rule.token, 40), recipe_.name));
    }
    out.pooled_row = ids.rend() - last - 1;
  }
  return out;
}

std::shared_ptr<const models::Prompt> PromptBuilder::continued(
    const std::shared_ptr<const models::Prompt>& begun, const std::vector<std::int64_t>& ids) {
  if (ids.empty()) return begun;
  auto prompt = std::make_shared<models::Prompt>(*begun);
  if (!prompt->ids.empty())
    prompt->boundaries.push_back(prompt->size());  // What follows one item, as traces do, parts here.
  append_ids(*prompt, ids);
  return prompt;
}

}  // namespace tte::prompt
