/* Models that the settings name by a repository of the hub. */
#ifndef MR_SERVICE_SETTINGS_HUB_H
#define MR_SERVICE_SETTINGS_HUB_H

#include "base/cancel.h"
#include "model/hub.h"
#include "service/settings.h"

/* Fetches a model and puts its files, or its folder, into settings->paths. `name` is what model_name_or_path says, and
 * no path here. Progress goes to the log. */
mr_status mr_settings_fetch_model(mr_settings *settings, mr_hub_want want, const char *name, char *const *files,
                                  size_t n_files, mr_cancel *cancel, mr_error *err);

/* Fetches a tokenizer and puts its folder into settings->tokenizer_folder. */
mr_status mr_settings_fetch_tokenizer(mr_settings *settings, const char *name, mr_cancel *cancel, mr_error *err);

#endif
