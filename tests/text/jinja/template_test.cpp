// The Jinja interpreter against Jinja as transformers sets it up (tests/data/text/make_goldens.py), its
// errors and limits.
#include "text/jinja/template.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <pthread.h>

#include <string>
#include <vector>

#include "text/text_test_util.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

using ::testing::HasSubstr;

Value value_of(const nlohmann::ordered_json& json) {
  if (json.is_null()) return None{};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    List list;
    for (const auto& item : json) list.push_back(value_of(item));
    return list;
  }
  Dict dict;
  for (const auto& [key, item] : json.items()) dict.set(key, value_of(item));
  return dict;
}

std::string render(std::string_view source, std::vector<std::pair<std::string, Value>> variables = {}) {
  return Template(source, "t.jinja").render(std::move(variables));
}

TEST(Jinja, EqualsJinja) {
  std::ifstream file(data_folder() / "jinja/golden.json");
  const auto golden = nlohmann::ordered_json::parse(file);
  std::vector<std::pair<std::string, Value>> variables;
  for (const auto& [name, value] : golden["variables"].items()) variables.emplace_back(name, value_of(value));
  for (const auto& c : golden["cases"]) {
    const auto source = c["template"].get<std::string>();
    try {
      EXPECT_EQ(render(source, variables), c["text"].get<std::string>()) << source;
    } catch (const std::exception& error) {
      ADD_FAILURE() << source << "\n" << error.what();
    }
  }
}

TEST(Jinja, ErrorsNameTheLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\nb\n{% if x %}", "endif"},
      {"\n\n{{ 1 + }}", "expression is expected"},
      {"\n\n{{ x[] }}", "expression is expected"},
      {"\n\n{% include 'x' %}", "{% include %} is not supported"},
      {"\n\n{% import 'x' as y %}", "not supported"},
      {"\n\n{% for x in y recursive %}{% endfor %}", "recursive"},
      {"\n\n{% break %}", "outside of a loop"},
      {"\n\n{{ f(*args) }}", "not supported"},
      {"\n\n{{ 'open }}", "string has no end"},
      {"\n\n{{ (1, 2 }}", "unexpected"},
      {"\n\n{# open", "comment has no end"},
      {"\n\n{{ a $ b }}", "unexpected character"},
      {"\n\n{{ 'a' | urlize }}", "filter urlize is not supported"},
      {"\n\n{{ 'a' is strange }}", "test strange is not supported"},
      {"\n\n{{ cycler() }}", "cycler is not supported"},
      {"\n\n{{ x.y.z }}", "not defined"},
      {"\n\n{{ 'a' + 1 }}", "str + int"},
      {"\n\n{{ 1 % 0 }}", "divided by zero"},
      {"\n\n{{ ''.__class__ }}", "__class__ of a str is not supported"},
      {"\n\n{{ 'a'.format(1) }}", "not supported"},
      {"\n\n{% set x.y = 1 %}", "namespace"},
      {"\n\n{% for x in 5 %}{% endfor %}", "going over a int is not supported"},
      {"\n\n{{ [1] in {}.keys() }}", "a list in a view is not supported"},
      {"\n\n{{ 99999999999999999999 }}", "the number 99999999999999999999 is not supported"},
  };
  for (const auto& [source, what] : cases) {
    const std::string message = message_of<ModelError>([&, s = source] { render(s); });
    EXPECT_THAT(message, ::testing::AllOf(HasSubstr("t.jinja, line 3"), HasSubstr(what))) << source;
  }
}

TEST(Jinja, RaiseExceptionIsAboutTheInput) {
  const auto message =
      message_of<InputError>([] { render("{{ raise_exception('Roles must alternate') }}"); });
  EXPECT_THAT(message, HasSubstr("Roles must alternate"));
}

TEST(Jinja, StrftimeNow) {
  EXPECT_THAT(render("{{ strftime_now('%Y') }}"), ::testing::StartsWith("20"));
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// `a` is a text of a million letters.
void expect_refused(const std::vector<std::string>& templates) {
  const std::string a(1'000'000, 'a');
  for (const std::string& source : templates) {
    if (source.starts_with("((")) {
      EXPECT_EQ(render(source), source);  // Just text.
    } else {
      EXPECT_THROW(render(source, {{"a", a}}), Error) << source.substr(0, 100);
    }
  }
}

std::vector<std::string> deep_templates() {
  return {
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{% for i in range(9) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
      repeated("(", 100000),
      "{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}",
      "{{ " + repeated("[", 100000) + " }}",
      "{{ " + repeated("not ", 100000) + "1 }}",
      "{{ " + repeated("-", 100000) + "1 }}",
      "{{ 1" + repeated(" + 1", 100000) + " }}",
      "{{ x" + repeated(".y", 100000) + " }}",
      "{{ x" + repeated("|d", 100000) + " }}",
      "{{ 1" + repeated(" if 1 else 1", 100000) + " }}",
      repeated("{% if 1 %}", 100000),
      "{% if 0 %}" + repeated("{% elif 0 %}", 100000) + "{% endif %}{{ 1 / 0 }}",
      repeated("{{", 100000),
      repeated("{% for x in [1] %}", 100) + repeated("{% endfor %}", 50),
  };
}

// A macro of so many parameters, each given by name.
std::string macro_of_many_names(int count) {
  std::string parameters, given;
  for (int i = 0; i < count; ++i) {
    parameters += fmt::format("a{}, ", i);
    given += fmt::format("a{}=1, ", i);
  }
  return fmt::format("{{% macro m({}z) %}}{{% endmacro %}}{{{{ m({}z=1) }}}}", parameters, given);
}

TEST(Jinja, ManyVariablesAreFound) {
  std::string sets;
  for (int i = 0; i < 50'000; ++i) sets += fmt::format("{{% set a{0}={0} %}}", i);
  EXPECT_EQ(render(sets + "{{ a0 }} {{ a49999 }}"), "0 49999");
}

// None of these may crash, hang or fill the memory.
TEST(Jinja, HostileTemplatesAreBounded) {
  expect_refused(deep_templates());
  expect_refused({macro_of_many_names(20'000)});
  expect_refused({
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{{ range(100000000) }}",
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ "
      "ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(50) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ "
      "ns.s == [ns.s] or ns.s | tojson }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(150) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | "
      "tojson }}",
      "{% for i in range(200) %}{{ (a ~ a ~ 'b').find(a ~ 'b' ~ 'c') }}{% endfor %}",
      "{% for i in range(200) %}{{ a.strip(a) }}{% endfor %}",
      "{% for i in range(1000) %}{{ a.split('a') | length }}{% endfor %}",
      "{% for i in range(100000) %}{{ a.replace('a', 'aa') }}{% endfor %}",
      "{{ (range(100000) | list).__class__ }}",
      repeated("{% for x in range(9) %}", 150) + "{{ y }}" + repeated("{% endfor %}", 150),
      "{{ range(100000) | join(a) }}",
      "{{ range(1000) | list | tojson(indent=a) }}",
      std::string("{{ '\0\xff' }}", 10),
  });
}

TEST(Jinja, DeepTemplatesAreBoundedOnASmallStack) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, std::size_t{256} << 10), 0);
  pthread_t thread;
  const auto run = [](void*) -> void* {
    expect_refused(deep_templates());
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, nullptr), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(Jinja, ValuesThatHoldThemselvesAreFreed) {
  // Checked by the leak sanitizer.
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{{ f }}{% endmacro %}ok"),
            "ok");
}

}  // namespace
}  // namespace tte::text::jinja
