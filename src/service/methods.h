/* The methods of the runner: their code and their descriptions. */
#ifndef MR_SERVICE_METHODS_H
#define MR_SERVICE_METHODS_H

#include "service/job.h"
#include "service/service.h"

typedef mr_status (*mr_method_fn)(const mr_job *job, mr_error *err);

/* The code of a method; NULL name = "chat". MR_ERR_NOT_FOUND lists the methods. */
mr_status mr_method_find(const char *name, mr_method_fn *run, mr_error *err);

#endif
