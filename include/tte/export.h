/// @file
/// Symbol visibility: everything is hidden unless it says TTE_API.
#pragma once

#define TTE_API __attribute__((visibility("default")))
