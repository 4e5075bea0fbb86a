#pragma once
// What a call throws, as a value: its message when the type is the expected one, and a text that no test expects otherwise.

#include <exception>
#include <string>

namespace aimerge {

template <typename Expected, typename Call>
std::string messageOf(Call&& call) {
    try {
        call();
    } catch (const Expected& error) {
        return error.what();
    } catch (const std::exception& error) {
        return std::string("(another type of exception) ") + error.what();
    }
    return "(nothing was thrown)";
}

}  // namespace aimerge
